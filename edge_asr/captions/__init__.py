"""Events as people read them: lines, a live view, JSON, subtitles."""
