"""Streaming speech recognition on the device.

    recognizer = edge_asr.load("commands-en")
    with recognizer.stream() as stream:
        for event in stream.push(samples, sample_rate):
            ...
        for event in stream.flush():
            ...

Importing this loads no backend: torch and onnxruntime are imported when a package is loaded.
"""
