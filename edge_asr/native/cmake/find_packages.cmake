# EXECUTORCH_DIR and TORCH_DIR, where nobody gave them: what the Python of the build has installed.
#
# Each is a folder in the end, or empty: then what needs it is left out. To leave one out on
# purpose, give it empty: -DTORCH_DIR=

find_package(Python 3.11 COMPONENTS Interpreter)

function(edge_asr_find_package variable name library)
  if(DEFINED ${variable} OR NOT Python_Interpreter_FOUND)
    return()
  endif()
  # The place of a package without importing it; a folder of that name elsewhere does not count.
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c "
import importlib.util, pathlib
spec = importlib.util.find_spec('${name}')
for place in (spec.submodule_search_locations or ()) if spec else ():
    if (pathlib.Path(place) / 'lib' / '${library}').is_file():
        print(place, end='')
        break
"
    OUTPUT_VARIABLE found COMMAND_ERROR_IS_FATAL ANY)
  set(${variable} "${found}" PARENT_SCOPE)
endfunction()

edge_asr_find_package(EXECUTORCH_DIR executorch libexecutorch.so)
edge_asr_find_package(TORCH_DIR torch libtorch_cpu.so)
