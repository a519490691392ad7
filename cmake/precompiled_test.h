// As precompiled.h, for tests.
#include "cmake/precompiled.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
