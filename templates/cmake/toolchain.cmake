# Always a cross build, on the target's own architecture too: what is found depends on the
# target only, never on the machine that builds.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR %machine%)

set(CMAKE_C_COMPILER "@{tools}/bin/%gnu%-cc")
set(CMAKE_CXX_COMPILER "@{tools}/bin/%gnu%-c++")
set(CMAKE_ASM_COMPILER "@{tools}/bin/%gnu%-cc")
foreach(tool AR RANLIB NM STRIP OBJDUMP OBJCOPY READELF)
  string(TOLOWER ${tool} name)
  set(CMAKE_${tool} "@{tools}/bin/${name}" CACHE FILEPATH "")
endforeach()
set(CMAKE_LINKER "@{tools}/bin/ld" CACHE FILEPATH "")
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER_AR "@{tools}/bin/ar" CACHE FILEPATH "")
  set(CMAKE_${language}_COMPILER_RANLIB "@{tools}/bin/ranlib" CACHE FILEPATH "")
endforeach()
set(PKG_CONFIG_EXECUTABLE "@{tools}/bin/pkg-config" CACHE FILEPATH "")

set(CMAKE_SYSROOT "@{sysroot}")
set(CMAKE_LIBRARY_ARCHITECTURE %gnu%)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_FIND_USE_PACKAGE_REGISTRY OFF)
set(CMAKE_FIND_USE_SYSTEM_PACKAGE_REGISTRY OFF)
set(CMAKE_SKIP_RPATH ON)

# Answers to questions that only a program of the target could answer by running.
%answers%
