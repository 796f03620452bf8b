// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package client is an MQTT client for 3.1, 3.1.1 and 5.0.
//
//	c, err := client.Dial(ctx, client.Options{Servers: []string{"mqtt://localhost"}})
//	...
//	defer c.Close(context.Background())
//	_, err = c.Subscribe(ctx, client.Subscription{Filter: "home/#", QoS: 1, Handler: print})
//	err = c.Publish(ctx, client.Message{Topic: "home/lamp", Payload: []byte("on"), QoS: 1})
//
// A Client keeps one session alive over as many connections as that takes. When a connection is lost it makes the next
// one, with growing pauses; repeats what was not acknowledged; subscribes again if the server has lost the session; and
// sends what was published meanwhile, from a bounded queue that may lie on disk. Dial fails if the first attempt does;
// New and Start make a client that keeps trying from the beginning.
//
// # Goroutines
//
// A client has a goroutine that connects and reads, one that calls handlers and event functions, and while connected one
// that writes. All end before Close returns. Every exported method may be called from any goroutine. Handlers are called
// one after the other, in the order in which messages came, and may call any method but Close and CloseWith, which wait
// for them.
//
// One mutex guards the client; no input or output happens under it but that of the queue on disk, and no function of
// the caller is called under it. Time is that of package time, so that tests under testing/synctest run in virtual time;
// randomness is handed in through Options.
//
// # Bytes
//
// Publish and its siblings copy what they are given. A received Message belongs to the handler that it is handed to;
// where several subscriptions match they share it, and must not change it.
//
// The protocol itself (windows, identifiers, aliases) is package session, the code that the broker runs.
package client
