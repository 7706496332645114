// Package nonblock reads and writes non-blocking descriptors without leaving
// the Go scheduler.
//
// # Theory of operation
//
// Around an ordinary system call the runtime gives its processor up for
// loan: a monitor thread that wakes every 20 µs takes it back from a call that
// lasts longer, wakes another thread to run it, and the call's goroutine has
// to find a processor again when it returns. A call on a non-blocking
// descriptor never waits, but it may copy 128 kB, or run the receiving side of
// a loopback connection, and take just such a time: then all this is done for
// nothing, several times for each request that trace carries. So these calls
// keep their processor. They must never be made on a descriptor that can
// block.
package nonblock
