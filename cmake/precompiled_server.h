// As precompiled.h, for the server: with Asio and Beast.
#include "cmake/precompiled.h"

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast.hpp>
