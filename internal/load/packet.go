// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"errors"
)

// Control packet types, as they stand in the upper half of the first byte.
const (
	typeConnect    = 1
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubrel     = 6
	typePubcomp    = 7
	typeSubscribe  = 8
	typeSuback     = 9
	typePingreq    = 12
	typePingresp   = 13
	typeDisconnect = 14
)

// retainFlag is that of PUBLISH, in the first byte.
const retainFlag = 1

var (
	errLength    = errors.New("load: malformed remaining length")
	errTruncated = errors.New("load: packet ends too early")
)

// packet is a view of one control packet in a read buffer.
type packet struct {
	first byte // type and flags
	body  []byte
}

func (p packet) kind() byte { return p.first >> 4 }
func (p packet) qos() byte  { return p.first >> 1 & 3 }

// cut takes the first packet off b. size is 0 where b holds less than one.
func cut(b []byte) (p packet, size int, err error) {
	length := 0
	for i := 1; i < len(b); i++ {
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			size = i + 1 + length
			if len(b) < size {
				return packet{}, 0, nil
			}
			return packet{first: b[0], body: b[i+1 : size]}, size, nil
		}
		if i == 4 {
			return packet{}, 0, errLength
		}
	}
	return packet{}, 0, nil
}

// id is the packet identifier of an acknowledgement.
func (p packet) id() (uint16, error) {
	if len(p.body) < 2 {
		return 0, errTruncated
	}
	return binary.BigEndian.Uint16(p.body), nil
}

// publication is what a PUBLISH holds beside its topic name. id is 0 at QoS 0.
func (p packet) publication() (id uint16, payload []byte, err error) {
	_, id, payload, err = p.publish(false)
	return id, payload, err
}

// publish is what a PUBLISH holds, without its properties. id is 0 at QoS 0.
func (p packet) publish(v5 bool) (name []byte, id uint16, payload []byte, err error) {
	if len(p.body) < 2 {
		return nil, 0, nil, errTruncated
	}
	rest := p.body[2:]
	n := int(binary.BigEndian.Uint16(p.body))
	if len(rest) < n {
		return nil, 0, nil, errTruncated
	}
	name, rest = rest[:n], rest[n:]
	if p.qos() > 0 {
		if len(rest) < 2 {
			return nil, 0, nil, errTruncated
		}
		id, rest = binary.BigEndian.Uint16(rest), rest[2:]
	}
	if v5 {
		if rest, err = skipProperties(rest); err != nil {
			return nil, 0, nil, err
		}
	}
	return name, id, rest, nil
}

// reason is the reason code of an acknowledgement: 0 where the packet leaves it out, as 3.1.1 always does.
func (p packet) reason() byte {
	if len(p.body) < 3 {
		return 0
	}
	return p.body[2]
}

// cutLength takes a variable byte integer off b.
func cutLength(b []byte) (n int, rest []byte, err error) {
	for i, c := range b[:min(4, len(b))] {
		n |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			return n, b[i+1:], nil
		}
	}
	return 0, nil, errTruncated
}

// skipProperties takes the properties off b.
func skipProperties(b []byte) ([]byte, error) {
	n, rest, err := cutLength(b)
	if err != nil || len(rest) < n {
		return nil, errTruncated
	}
	return rest[n:], nil
}

// appendLength appends a remaining length.
func appendLength(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// appendConnect appends a CONNECT with a keep alive beyond the end of any run, and with a clean session unless it is to persist.
func appendConnect(dst []byte, clientID string, persistent bool) []byte {
	l := Login{ClientID: clientID, Version: 4, KeepAlive: 3600, Clean: !persistent}
	return l.append(dst)
}

// appendSubscribe appends a SUBSCRIBE of all filters at one QoS.
func appendSubscribe(dst []byte, id uint16, filters []string, qos byte, v5 bool) []byte {
	n := 2
	if v5 {
		n++
	}
	for _, f := range filters {
		n += 2 + len(f) + 1
	}
	dst = append(dst, typeSubscribe<<4|2)
	dst = appendLength(dst, n)
	dst = binary.BigEndian.AppendUint16(dst, id)
	if v5 {
		dst = append(dst, 0) // no properties
	}
	for _, f := range filters {
		dst = append(appendString(dst, f), qos)
	}
	return dst
}

// appendPublish appends a PUBLISH and returns where its topic, identifier (above QoS 0) and payload begin in dst.
func appendPublish(dst []byte, topic string, qos byte, payload int) (out []byte, topicAt, idAt, payloadAt int) {
	n := 2 + len(topic) + payload
	if qos > 0 {
		n += 2
	}
	dst = append(dst, typePublish<<4|qos<<1)
	dst = appendLength(dst, n)
	topicAt = len(dst) + 2
	dst = appendString(dst, topic)
	idAt = len(dst)
	if qos > 0 {
		dst = append(dst, 0, 0)
	}
	payloadAt = len(dst)
	return append(dst, make([]byte, payload)...), topicAt, idAt, payloadAt
}
