// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package epoll is the transport of Linux: the loops themselves accept, read and write, without a goroutine for a connection.
//
// # The way of the bytes
//
// Each loop waits in an epoll instance of its own, its Poller (give NewPoller to the loops). Interest is level-triggered: a socket
// that is ready is read once, at most 64 KB, into a buffer that belongs to the loop, and the core is fed from it in place. So an
// idle connection holds no buffer, one that is in the middle of a packet holds what there is of it, and a loud one has its turn
// like all others. What the core queues is written at the end of the iteration, with one call; a socket that is full has
// EPOLLOUT armed until all is written. epoll_ctl is called when what is wanted changes, not for each message.
//
// Every loop watches every listening socket, exclusively: the kernel wakes one that sleeps, and the connection stays there until
// its core moves it. That costs no hand-over, and what loops share out unevenly so is evened out when connections go home.
//
// PROXY headers, the first byte and the request of a WebSocket are looked at on the loop. TLS is package crypto/tls as it is: the
// handshake runs on a goroutine, of which GOMAXPROCS at most compute at any time; afterwards the loop hands over what arrived
// through a net.Conn in memory that says "deadline passed" when it is empty, which crypto/tls takes for a reason to be asked
// again later. A test at each release of Go checks that this still holds.
//
// # Ownership
//
// Everything in a conn belongs to its loop, but for the socket while the goroutine of a TLS handshake has it. Events carry the number of a
// slot and a generation, so that those of a connection that is gone reach nobody. Locks are leaves.
//
// Elsewhere than on Linux the package is empty; see transport/std.
package epoll
