# Compiler options: warnings (an interface target, so that kernels can leave them out), sanitizers,
# ccache.
set(OCTET_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=<value>")
option(OCTET_BUILD_TESTS "Build the tests" ON)
# Of compilers that the tests know; later ones may warn of more.
set(known OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  set(known ON)
endif()
option(OCTET_WERROR "Warnings are errors" ${known})

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # What ccache wants to cache files with precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
      ${CCACHE_PROGRAM})
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  endif()
endif()

# Precompiled headers: much of a file's time goes into what it includes. octet_precompile(<target>
# <header>) gives a target its own, of cmake/<header>; octet_reuse(<target> <other>) another's,
# which needs the same flags.
option(OCTET_PCH "Precompiled headers" ON)
function(octet_precompile target header)
  if(OCTET_PCH)
    target_precompile_headers(${target} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/${header})
  endif()
endfunction()
function(octet_reuse target other)
  if(OCTET_PCH)
    target_precompile_headers(${target} REUSE_FROM ${other})
  endif()
endfunction()

# Several files of a target compiled as one: what their headers instantiate is compiled once, not in
# each of them. Off where one file at a time is changed and compiled again (the preset debug).
option(OCTET_UNITY "Several files are compiled as one" ON)
function(octet_unite target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${OCTET_UNITY} UNITY_BUILD_BATCH_SIZE 16)
endfunction()

add_library(octet_warnings INTERFACE)
target_compile_options(octet_warnings INTERFACE -Wall -Wextra -Wshadow -Wconversion)
# In precompiled headers g++ 12 no longer knows the standard library's code for a system's, and shows
# its false alarms about strings that are put together there (GCC bugs 105329, 105651).
if(OCTET_PCH AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(octet_warnings INTERFACE -Wno-restrict -Wno-array-bounds
                         -Wno-stringop-overflow -Wno-stringop-overread)
endif()
# To g++ the files of a unit are headers, whose classes must not hold what only one file knows.
if(OCTET_UNITY AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(octet_warnings INTERFACE -Wno-subobject-linkage)
endif()
# What sanitizers add makes g++ see overflows where there are none.
if(OCTET_WERROR AND NOT OCTET_SANITIZE)
  target_compile_options(octet_warnings INTERFACE -Werror)
endif()

add_compile_options(-fno-omit-frame-pointer)
if(OCTET_SANITIZE)
  add_compile_options(-fsanitize=${OCTET_SANITIZE} -fno-sanitize-recover=all)
  if(OCTET_SANITIZE MATCHES thread)
    add_compile_options(-Wno-tsan)  # Boost.Asio has fences, which g++ cannot instrument
  endif()
  add_link_options(-fsanitize=${OCTET_SANITIZE})
endif()
