// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package mqtt is the words and bytes of MQTT 3.1, 3.1.1 and 5.0: control packets, properties, reason codes, and the
// application message.
//
// A decoded packet is a view: its byte slices point into the buffer it was decoded from and die with it. Decode reuses
// its receiver, so that a loop keeps one packet of each kind and allocates nothing. Who keeps something clones it;
// Publish.Message does so for a whole application message. Append adds the encoding to a buffer of the caller.
//
// Decoding is strict and linear: each packet is checked against every rule that can be told from the packet alone, and
// a fault comes back as an *Error with the reason code of the 5.0 standard. What needs more knowledge is left to the
// caller: the state of the connection, its limits, which side sent the packet (CheckClient), and the wildcards of a
// topic filter (package topic). Encoding trusts its caller, who keeps strings within MaxString and packets within
// MaxRemaining; anything longer is a broken invariant and panics, because it would shift all bytes that follow.
//
// The package opens nothing, starts no goroutine, reads no clock, logs nothing, and keeps no state. Values are used by
// one goroutine at a time; an encoded or cloned value that nobody changes may be shared.
package mqtt
