/* Stands in front of px4_msgs: describes one of its messages as another one, as the package of another PX4 release would. */
#define _GNU_SOURCE
#include <dlfcn.h>
const void *px4_msgs__msg__VehicleOdometry__get_type_description(const void *unused) {
  const void *(*other)(const void *) = (const void *(*)(const void *))dlsym(
      RTLD_NEXT, "px4_msgs__msg__VehicleLandDetected__get_type_description");
  return other(unused);
}
