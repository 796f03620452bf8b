// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"fmt"
	"strconv"
	"strings"
)

// Dump decodes a packet and returns it for people: names, numbers and sizes, never payloads or passwords. A body that
// does not decode is told by the fault. It is meant for traces, not for the path of a message.
func Dump(h Header, body []byte, v Version) string {
	var p interface {
		fmt.Stringer
		Decode(Header, []byte, Version) error
	}
	switch h.Type {
	case CONNECT:
		var c Connect
		if err := c.Decode(h, body); err != nil {
			return fmt.Sprintf("%v size=%d: %v", h.Type, len(body), err)
		}
		return c.String()
	case CONNACK:
		p = new(Connack)
	case PUBLISH:
		p = new(Publish)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p = new(Ack)
	case SUBSCRIBE:
		p = new(Subscribe)
	case SUBACK:
		p = new(Suback)
	case UNSUBSCRIBE:
		p = new(Unsubscribe)
	case UNSUBACK:
		p = new(Unsuback)
	case DISCONNECT:
		p = new(Disconnect)
	case AUTH:
		p = new(Auth)
	default:
		return h.Type.String()
	}
	if err := p.Decode(h, body, v); err != nil {
		return fmt.Sprintf("%v size=%d: %v", h.Type, len(body), err)
	}
	return p.String()
}

// dump writes a packet for people: its name, then key=value pairs.
type dump struct{ strings.Builder }

func startDump(t PacketType) *dump {
	d := new(dump)
	d.WriteString(t.String())
	return d
}

func (d *dump) word(key, value string) {
	d.WriteString(" " + key + "=" + value)
}

func (d *dump) text(key string, value []byte) { d.word(key, strconv.Quote(string(value))) }

func (d *dump) number(key string, value int) { d.word(key, strconv.Itoa(value)) }

// flag writes the key alone, if it is set.
func (d *dump) flag(key string, set bool) {
	if set {
		d.WriteString(" " + key)
	}
}

func (d *dump) code(c ReasonCode) {
	if c != Success {
		d.word("code", fmt.Sprintf("0x%02X", byte(c))+" ("+c.String()+")")
	}
}

func (d *dump) codes(codes []ReasonCode) {
	for _, c := range codes {
		d.word("code", fmt.Sprintf("0x%02X", byte(c)))
	}
}

func (d *dump) properties(p Properties) {
	separator := " {"
	for prop := range p.All() {
		d.WriteString(separator + prop.String())
		separator = ", "
	}
	if separator == ", " {
		d.WriteString("}")
	}
}
