# edge_asr/native/_executorch: the Python binding of ExecuTorch without torch.
#
# In:  EXECUTORCH_DIR     folder of the installed executorch package (site-packages/executorch)
#      Python             with its headers and nanobind, else there is no binding
# Out: target _executorch, installed into edge_asr/native
#
# The wheel's own CMake package defines its targets from CMake 3.28 on only; this needs 3.19.

if(NOT EXISTS "${EXECUTORCH_DIR}/lib/libexecutorch.so")
  message(FATAL_ERROR "EXECUTORCH_DIR must be the folder of an installed executorch; "
                      "there is no lib/libexecutorch.so in '${EXECUTORCH_DIR}'")
endif()

find_package(Python 3.11 COMPONENTS Interpreter Development.Module)
if(NOT Python_Development.Module_FOUND)
  message(NOTICE "without the headers of Python (Debian: python3-dev) there is no binding of ExecuTorch")
  return()
endif()

if(NOT COMMAND nanobind_add_module)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir
    RESULT_VARIABLE failed OUTPUT_VARIABLE nanobind_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(failed)
    message(NOTICE "without nanobind (pip install nanobind) there is no binding of ExecuTorch")
    return()
  endif()
  find_package(nanobind CONFIG REQUIRED)
endif()

# Objects of this release fit only libraries of this release; the module says which it is.
file(STRINGS "${EXECUTORCH_DIR}/version.py" executorch_version REGEX "^__version__")
if(NOT executorch_version MATCHES "\"([0-9]+\\.[0-9]+\\.[0-9]+)")
  message(FATAL_ERROR "no version in '${EXECUTORCH_DIR}/version.py'")
endif()
set(executorch_version "${CMAKE_MATCH_1}")

nanobind_add_module(_executorch NB_STATIC "${CMAKE_CURRENT_LIST_DIR}/../executorch_binding.cpp")
target_compile_features(_executorch PRIVATE cxx_std_17)
target_compile_definitions(
  _executorch PRIVATE C10_USING_CUSTOM_GENERATED_MACROS ET_EVENT_TRACER_ENABLED
                      EXECUTORCH_VERSION="${executorch_version}")
target_include_directories(
  _executorch SYSTEM PRIVATE "${EXECUTORCH_DIR}/include"
                             "${EXECUTORCH_DIR}/include/executorch/runtime/core/portable_type/c10")
target_link_libraries(
  _executorch PRIVATE "${EXECUTORCH_DIR}/lib/libexecutorch.so"
                      "${EXECUTORCH_DIR}/lib/libexecutorch_threadpool.so")
# The C++ runtime stays shared: exceptions pass through the libraries' frames.
# Python opens the libraries before the module, so that it names them but not their place.
set_target_properties(_executorch PROPERTIES SKIP_BUILD_RPATH ON INSTALL_RPATH "")
target_link_options(_executorch PRIVATE "$<$<PLATFORM_ID:Linux>:LINKER:-s>")

install(TARGETS _executorch LIBRARY DESTINATION edge_asr/native)
