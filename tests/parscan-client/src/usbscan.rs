//! Control codes and layouts of usbscan.h: the driver's own.

pub use parscan_core::ioctl::usbscan::{
    Bitness, ChannelInfo, DeviceDescriptor, DriverVersion, GetDescriptor, IOCTL_CANCEL_IO,
    IOCTL_GET_CHANNEL_ALIGN_RQST, IOCTL_GET_DEVICE_DESCRIPTOR, IOCTL_GET_PIPE_CONFIGURATION,
    IOCTL_GET_USB_DESCRIPTOR, IOCTL_GET_VERSION, IOCTL_READ_REGISTERS, IOCTL_RESET_PIPE,
    IOCTL_SEND_USB_REQUEST, IOCTL_SET_TIMEOUT, IOCTL_WAIT_ON_DEVICE_EVENT, IOCTL_WRITE_REGISTERS,
    IoBlock, IoBlockEx, MAX_NUM_PIPES, Pipe, PipeConfiguration, PipeInformation, PipeType,
    RawPipeType, Timeouts,
};
