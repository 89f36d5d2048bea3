//! Every byte that crosses a wire, without any I/O.
