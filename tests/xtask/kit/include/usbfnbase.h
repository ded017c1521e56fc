/* Stands in for the WDK's usbfnbase.h (USB function controllers, basic types).
 *
 * Why here: wdk-sys includes it for its feature "usb", and mingw-w64 lacks it. The driver uses
 * nothing from it, so it is empty. */
#pragma once
