/* Stands in for the WDK's usbfnioctl.h (USB function controllers, requests).
 *
 * Why here: wdk-sys includes it for its feature "usb", and mingw-w64 lacks it. The driver uses
 * nothing from it, so it is empty. */
#pragma once
