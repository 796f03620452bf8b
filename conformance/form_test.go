// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"encoding/binary"
	"testing"
	"unicode/utf8"

	"github.com/noctule/noctule/mqtt"
)

// form looks at every packet that a server sends on one connection: is it well formed, may a server send it, and may it
// come now? It shares no code with package mqtt, whose reader might repeat the faults of its writer.
type form struct {
	t       testing.TB
	v       mqtt.Version
	greeted bool // CONNACK came
	ended   bool // DISCONNECT or a refusing CONNACK came
	b       []byte
	packet  []byte
}

// The reason codes of 5.0, packet by packet.
var listed = map[byte]string{
	2:  "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x90\x95\x97\x99\x9a\x9b\x9c\x9d\x9f",
	4:  "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	5:  "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	6:  "\x00\x92",
	7:  "\x00\x92",
	9:  "\x00\x01\x02\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2",
	11: "\x00\x11\x80\x83\x87\x8f\x91",
	14: "\x00\x80\x81\x82\x83\x87\x89\x8b\x8d\x8e\x8f\x90\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f" +
		"\xa0\xa1\xa2", // without 0x04, which is the client's
	15: "\x00\x18", // without 0x19, which is the client's
}

// The properties that a server may send, packet by packet.
var permitted = map[byte]string{
	2:  "\x11\x12\x13\x15\x16\x1a\x1c\x1f\x21\x22\x24\x25\x26\x27\x28\x29\x2a",
	3:  "\x01\x02\x03\x08\x09\x0b\x23\x26",
	4:  "\x1f\x26",
	5:  "\x1f\x26",
	6:  "\x1f\x26",
	7:  "\x1f\x26",
	9:  "\x1f\x26",
	11: "\x1f\x26",
	14: "\x1c\x1f\x26", // without 0x11, which is the client's [MQTT-3.14.2-2]
	15: "\x15\x16\x1f\x26",
}

func (f *form) fail(what string) {
	f.t.Helper()
	f.t.Errorf("the server sent % x: %s", f.packet[:min(len(f.packet), 64)], what)
}

// look checks one packet.
func (f *form) look(packet []byte) {
	f.t.Helper()
	f.packet, f.b = packet, packet[1:]
	kind, flags := packet[0]>>4, packet[0]&0xF
	f.order(kind)
	want := byte(0)
	switch kind {
	case 3:
		want = flags
		if flags&6 == 6 || flags&8 != 0 && flags&6 == 0 {
			f.fail("QoS 3, or DUP at QoS 0")
		}
	case 6:
		want = 2
	}
	if flags != want {
		f.fail("reserved flags")
	}
	if n := f.varint(); n != len(f.b) {
		f.fail("remaining length")
		return
	}
	f.body(kind, flags)
}

// order checks that the packet may come now.
func (f *form) order(kind byte) {
	f.t.Helper()
	switch kind {
	case 2, 3, 4, 5, 6, 7, 9, 11, 13:
	case 14, 15:
		if f.v != mqtt.V5 {
			f.fail("not a packet of a server in this version")
		}
	default:
		f.fail("not a packet of a server")
	}
	switch {
	case f.ended:
		f.fail("something after the last word")
	case !f.greeted && kind != 2 && kind != 15:
		f.fail("something before CONNACK")
	case f.greeted && kind == 2:
		f.fail("a second CONNACK")
	}
	f.greeted = f.greeted || kind == 2
	f.ended = kind == 14
}

// body checks what follows the fixed header.
func (f *form) body(kind, flags byte) {
	f.t.Helper()
	v5 := f.v == mqtt.V5
	switch kind {
	case 2:
		present := f.byte()
		if present > 1 || present == 1 && f.v == mqtt.V31 {
			f.fail("connect acknowledge flags")
		}
		code := f.byte()
		if !v5 && code > 5 || v5 && !f.lists(kind, code) {
			f.fail("code")
		}
		if code != 0 && present != 0 {
			f.fail("session present on a refusal")
		}
		f.ended = code != 0
		f.properties(kind)
	case 3:
		name := f.text()
		if bytes.ContainsAny(name, "+#") || len(name) == 0 && !v5 {
			f.fail("topic name")
		}
		if flags&6 != 0 {
			f.id()
		}
		f.properties(kind)
		f.b = nil
	case 4, 5, 6, 7:
		f.id()
		f.coded(kind)
	case 9, 11:
		f.id()
		f.properties(kind)
		if kind == 11 && !v5 {
			break
		}
		if len(f.b) == 0 {
			f.fail("no codes")
		}
		for _, code := range f.b {
			if v5 && !f.lists(kind, code) || !v5 && code > 2 && code != 0x80 {
				f.fail("code")
			}
		}
		f.b = nil
	case 14, 15:
		f.coded(kind)
	}
	if len(f.b) != 0 {
		f.fail("bytes are left over")
	}
}

// coded checks a code and properties that may be left out in 5.0 and do not exist before.
func (f *form) coded(kind byte) {
	f.t.Helper()
	if f.v != mqtt.V5 || len(f.b) == 0 {
		return
	}
	if !f.lists(kind, f.byte()) {
		f.fail("code")
	}
	if len(f.b) > 0 {
		f.properties(kind)
	}
}

func (f *form) lists(kind, code byte) bool { return bytes.IndexByte([]byte(listed[kind]), code) >= 0 }

// properties checks a property length and the properties of 5.0.
func (f *form) properties(kind byte) {
	f.t.Helper()
	if f.v != mqtt.V5 {
		return
	}
	if len(f.b) == 0 {
		f.fail("no property length")
		return
	}
	n := f.varint()
	if n > len(f.b) {
		f.fail("property length")
		return
	}
	rest := f.b[n:]
	f.b = f.b[:n]
	seen := map[byte]bool{}
	for len(f.b) > 0 && !f.t.Failed() {
		id := f.byte()
		if bytes.IndexByte([]byte(permitted[kind]), id) < 0 {
			f.fail("a property that does not belong there")
		}
		if seen[id] && id != 0x26 && id != 0x0B {
			f.fail("a property twice")
		}
		seen[id] = true
		f.property(id)
	}
	f.b = rest
}

// property checks one value.
func (f *form) property(id byte) {
	f.t.Helper()
	switch id {
	case 0x01, 0x24, 0x25, 0x28, 0x29, 0x2a:
		if f.byte() > 1 {
			f.fail("a flag that is neither 0 nor 1")
		}
	case 0x13, 0x22:
		f.take(2)
	case 0x21, 0x23:
		f.id()
	case 0x02, 0x11:
		f.take(4)
	case 0x27:
		if b := f.take(4); len(b) == 4 && binary.BigEndian.Uint32(b) == 0 {
			f.fail("Maximum Packet Size 0")
		}
	case 0x0B:
		if f.varint() == 0 {
			f.fail("subscription identifier 0")
		}
	case 0x09, 0x16:
		f.take(int(binary.BigEndian.Uint16(f.two())))
	case 0x26:
		f.text()
		f.text()
	default:
		f.text()
	}
}

// take gives the next n bytes.
func (f *form) take(n int) []byte {
	f.t.Helper()
	if n > len(f.b) {
		f.fail("it ends too early")
		f.b = nil
		return make([]byte, n)
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *form) byte() byte { f.t.Helper(); return f.take(1)[0] }

func (f *form) two() []byte { f.t.Helper(); return f.take(2) }

// id checks a number of two bytes that is not 0.
func (f *form) id() {
	f.t.Helper()
	if binary.BigEndian.Uint16(f.two()) == 0 {
		f.fail("identifier 0")
	}
}

// text checks a UTF-8 encoded string.
func (f *form) text() []byte {
	f.t.Helper()
	b := f.take(int(binary.BigEndian.Uint16(f.two())))
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		f.fail("text")
	}
	return b
}

// varint reads a variable byte integer in its shortest form.
func (f *form) varint() int {
	f.t.Helper()
	n, shift := 0, 0
	for {
		b := f.byte()
		n |= int(b&0x7F) << shift
		if b < 0x80 {
			if b == 0 && shift > 0 {
				f.fail("a number in more bytes than it needs")
			}
			return n
		}
		if shift += 7; shift > 21 {
			f.fail("a number of more than four bytes")
			return -1
		}
	}
}
