// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import "github.com/noctule/noctule/mqtt"

// An outbox is the sending half of a client's session: the messages on their way to the broker, in the order in which they were
// sent first. It outlives connections. T says which message it is.
type outbox[T any] struct {
	flights []flight[T]
	last    uint16 // the packet identifier used last
}

// A flight is one message on its way.
type flight[T any] struct {
	id       uint16
	qos      mqtt.QoS
	item     T
	received bool // PUBREC came: PUBREL is on its way
	resent   bool // on a second connection: what becomes of this copy tells nothing of the first one
}

// fate is what an acknowledgement means for a message.
type fate byte

const (
	accepted  fate = 1 << iota // the broker owns it: PUBACK, the first PUBREC
	completed                  // nothing more comes: PUBACK, PUBCOMP
	refused                    // the reason code is one of failure
	doubtful                   // and may have been taken when it was sent first
)

// add takes a message and gives its packet identifier. There are fewer than 65 535 flights.
func (o *outbox[T]) add(q mqtt.QoS, item T) uint16 {
	for {
		o.last++
		if o.last != 0 && o.find(o.last) < 0 {
			o.flights = append(o.flights, flight[T]{id: o.last, qos: q, item: item})
			return o.last
		}
	}
}

func (o *outbox[T]) find(id uint16) int {
	for i := range o.flights {
		if o.flights[i].id == id {
			return i
		}
	}
	return -1
}

// take carries out an acknowledgement: it returns the message it is for, what that means, and the PUBREL to send. Acknowledgements
// of nothing return no fate.
func (o *outbox[T]) take(a *mqtt.Ack, v mqtt.Version) (item T, f fate, answer []byte) {
	i := o.find(a.ID)
	if i < 0 {
		return item, 0, nil
	}
	fl := &o.flights[i]
	item = fl.item
	switch {
	case a.Type == mqtt.PUBACK && fl.qos == 1:
		f = accepted | completed
	case a.Type == mqtt.PUBREC && fl.qos == 2:
		if !fl.received {
			f = accepted
		}
	case a.Type == mqtt.PUBCOMP && fl.received:
		f = completed
	default:
		return item, 0, nil
	}
	if a.Code.IsError() && f&accepted != 0 {
		if f = refused; fl.resent {
			f |= doubtful
		}
	}
	if f&(completed|refused) != 0 {
		o.flights = append(o.flights[:i], o.flights[i+1:]...)
		return item, f, nil
	}
	fl.received = true
	return item, f, mqtt.AppendAck(nil, mqtt.PUBREL, a.ID, mqtt.Success, v)
}

// resend appends what a client repeats when its session is resumed, in the original order [MQTT-4.4.0-1], [MQTT-4.6.0-1].
// publish appends the PUBLISH of a flight, with DUP.
func (o *outbox[T]) resend(v mqtt.Version, publish func(dst []byte, f flight[T]) []byte) []byte {
	var b []byte
	for i := range o.flights {
		f := &o.flights[i]
		if f.received {
			b = mqtt.AppendAck(b, mqtt.PUBREL, f.id, mqtt.Success, v)
		} else {
			f.resent = true
			b = publish(b, *f)
		}
	}
	return b
}

// abandon forgets everything, as a client does whose session the broker lost, and returns what it was.
func (o *outbox[T]) abandon() []flight[T] {
	fs := o.flights
	o.flights = nil
	return fs
}
