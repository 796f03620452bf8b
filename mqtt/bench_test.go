// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"strings"
	"testing"
)

func BenchmarkDecodePublish(b *testing.B) {
	user := AppendPropUser(AppendPropUint32(nil, PropMessageExpiryInterval, 60), "key", "value")
	for _, bench := range []struct {
		name  string
		v     Version
		topic string
		props Properties
	}{
		{"3.1.1", V311, "home/floor1/lamp/7/state", nil},
		{"5.0", V5, "home/floor1/lamp/7/state", nil},
		{"5.0 with properties", V5, "home/floor1/lamp/7/state", user},
		{"3.1.1 not ASCII", V311, "häuser/straße/lämpchen/7", nil},
		{"3.1.1 long topic", V311, strings.Repeat("level/", 40), nil},
	} {
		b.Run(bench.name, func(b *testing.B) {
			wire := (&Publish{QoS: 1, ID: 1, Topic: []byte(bench.topic), Properties: bench.props, Payload: make([]byte, 256)}).
				Append(nil, bench.v)
			var p Publish
			b.ReportAllocs()
			for b.Loop() {
				h, n, _ := DecodeHeader(wire, bench.v)
				if err := p.Decode(h, wire[n:], bench.v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendPublishHeader(b *testing.B) {
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendPublishHeader(dst[:0], 2, "home/floor1/lamp/7/state", 1, V5, nil, 256)
	}
}

func BenchmarkAppendAck(b *testing.B) {
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendAck(dst[:0], PUBACK, 1, Success, V5)
	}
}

func BenchmarkMessage(b *testing.B) {
	p := Publish{Topic: []byte("home/floor1/lamp/7/state"), Payload: make([]byte, 256)}
	b.ReportAllocs()
	for b.Loop() {
		p.Message(1)
	}
}

func BenchmarkDecodeConnect(b *testing.B) {
	wire := (&Connect{Version: V5, CleanStart: true, KeepAlive: 60, ClientID: []byte("client-4711"), HasUsername: true,
		Username: []byte("user"), HasPassword: true, Password: []byte("password")}).Append(nil)
	var c Connect
	b.ReportAllocs()
	for b.Loop() {
		h, n, _ := DecodeHeader(wire, 0)
		if err := c.Decode(h, wire[n:]); err != nil {
			b.Fatal(err)
		}
	}
}
