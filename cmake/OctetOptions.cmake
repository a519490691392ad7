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
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(octet_warnings INTERFACE)
target_compile_options(octet_warnings INTERFACE -Wall -Wextra -Wshadow -Wconversion)
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
