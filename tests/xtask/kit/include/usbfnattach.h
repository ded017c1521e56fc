/* Stands in for the WDK's usbfnattach.h (USB function controllers, attach detection).
 *
 * Why here: wdk-sys includes it for its feature "usb", and mingw-w64 lacks it. The driver uses
 * nothing from it, so it is empty. */
#pragma once
