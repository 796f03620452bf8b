// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

// MaxRemaining is the largest remaining length of a packet, in bytes.
const MaxRemaining = 268_435_455

// Header is the fixed header of a control packet.
type Header struct {
	Type      PacketType
	Flags     byte // the low half of the first byte
	Remaining int  // bytes after the fixed header, 0 to MaxRemaining
}

// The flags of PUBLISH, and those that PUBREL, SUBSCRIBE and UNSUBSCRIBE must carry.
const (
	flagRetain   = 0x01
	flagQoS      = 0x06
	flagDup      = 0x08
	flagReserved = 0x02
)

// Dup returns the DUP flag of a PUBLISH.
func (h Header) Dup() bool { return h.Flags&flagDup != 0 }

// QoS returns the QoS of a PUBLISH.
func (h Header) QoS() QoS { return QoS(h.Flags & flagQoS >> 1) }

// Retain returns the RETAIN flag of a PUBLISH.
func (h Header) Retain() bool { return h.Flags&flagRetain != 0 }

// PublishFlags returns the header flags of a PUBLISH.
func PublishFlags(dup bool, qos QoS, retain bool) byte {
	flags := byte(qos) << 1
	if dup {
		flags |= flagDup
	}
	if retain {
		flags |= flagRetain
	}
	return flags
}

// DecodeHeader reads the fixed header at the start of b and returns the number of bytes it takes. n = 0 without an error
// means that more bytes are needed; a fault is told as early as it shows. v is the version of the connection, 0 before
// its CONNECT. An encoding of the remaining length that is longer than needed is refused in all versions [MQTT-1.5.5-1].
func DecodeHeader(b []byte, v Version) (h Header, n int, err error) {
	if len(b) == 0 {
		return Header{}, 0, nil
	}
	h = Header{Type: PacketType(b[0] >> 4), Flags: b[0] & 0x0F}
	if what := h.fault(v); what != "" {
		return h, 0, fault(MalformedPacket, h.Type, what)
	}
	if len(b) >= 2 && b[1] < 0x80 { // by far the most common
		h.Remaining, n = int(b[1]), 2
	} else if remaining, size, ok := decodeVarInt(b[1:]); !ok {
		return h, 0, fault(MalformedPacket, h.Type, "remaining length is not a variable byte integer")
	} else if size == 0 {
		return h, 0, nil
	} else {
		h.Remaining, n = int(remaining), 1+size
	}
	if h.Remaining != 0 && (h.Type == PINGREQ || h.Type == PINGRESP) {
		return h, 0, fault(MalformedPacket, h.Type, "remaining length is not 0")
	}
	return h, n, nil
}

// fault checks the first byte of a packet [MQTT-2.2.2-2] (3.1.1), [MQTT-2.1.3-1] (5.0), and says what is wrong.
func (h Header) fault(v Version) string {
	switch h.Type {
	case 0:
		return "packet type 0 is reserved"
	case PUBLISH:
		if h.QoS() > 2 { // [MQTT-3.3.1-4]
			return "QoS 3"
		}
		if h.Dup() && h.QoS() == 0 && v != V31 { // [MQTT-3.3.1-2]; 3.1 only says that the flag is not used
			return "DUP at QoS 0"
		}
		return ""
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE: // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]; 3.1 has a DUP flag there
		if h.Flags == flagReserved || v == V31 && h.Flags == flagReserved|flagDup {
			return ""
		}
		return "flags are not 0010"
	case AUTH:
		if v == V31 || v == V311 {
			return "packet type 15 is reserved"
		}
	}
	if h.Flags != 0 {
		return "flags are not 0000"
	}
	return ""
}

// decodeVarInt reads a variable byte integer. size = 0 with ok means that b ends too early.
func decodeVarInt(b []byte) (value uint32, size int, ok bool) {
	for i := 0; i < len(b) && i < 4; i++ {
		value |= uint32(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			return value, i + 1, i == 0 || b[i] != 0
		}
	}
	return 0, 0, len(b) < 4
}

// appendVarInt appends value, at most MaxRemaining, in as few bytes as it takes [MQTT-1.5.5-1].
func appendVarInt(dst []byte, value int) []byte {
	if uint(value) > MaxRemaining {
		panic("mqtt: number too large for a variable byte integer")
	}
	for value >= 0x80 {
		dst = append(dst, byte(value)|0x80)
		value >>= 7
	}
	return append(dst, byte(value))
}

// varIntSize returns the number of bytes that appendVarInt appends.
func varIntSize(value int) int {
	switch {
	case value < 1<<7:
		return 1
	case value < 1<<14:
		return 2
	case value < 1<<21:
		return 3
	}
	return 4
}

func appendHeader(dst []byte, t PacketType, flags byte, remaining int) []byte {
	return appendVarInt(append(dst, byte(t)<<4|flags), remaining)
}
