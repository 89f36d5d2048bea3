//! A watch on the kernel's address table: it tells when the machine's addresses or links change.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

/// rtnetlink groups (linux/rtnetlink.h): links, IPv4 addresses, IPv6 addresses.
const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;

/// An open subscription.
#[derive(Debug)]
pub struct AddressWatch {
    socket: AsyncFd<OwnedFd>,
}

impl AddressWatch {
    /// Subscribes; needs no rights.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        // SAFETY: an OwnedFd is the same open descriptor from here until it is dropped.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket })
    }

    /// Waits for news. What changed is not parsed: the caller reads the whole table anyway.
    pub async fn changed(&self) -> io::Result<()> {
        let mut buffer = [0u8; 4096];
        loop {
            let mut ready = self.socket.readable().await?;
            let mut news = false;
            loop {
                match recv(self.socket.get_ref().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    // ENOBUFS: messages were lost, which is news as well.
                    Ok(_) | Err(Errno::ENOBUFS) => news = true,
                    Err(Errno::EAGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if news {
                return Ok(());
            }
        }
    }
}
