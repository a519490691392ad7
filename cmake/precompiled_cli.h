// As precompiled.h, for the verbs: with CLI11.
#include "cmake/precompiled.h"

#include <CLI/CLI.hpp>
