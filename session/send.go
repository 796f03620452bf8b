// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"github.com/noctule/noctule/mqtt"
)

// SendResult says what became of a delivery.
type SendResult byte

const (
	SentNow  SendResult = iota // written
	TooLarge                   // beyond the peer's Maximum Packet Size: dropped, counts as delivered [MQTT-3.1.2-25]
	TooOld                     // expired before it was sent [MQTT-3.3.2-5]
)

// SendQoS0 writes a message of QoS 0.
func (s *Session[T]) SendQoS0(d *Delivery[T], now int64, w Sink) SendResult {
	if d.Message.Expired(now) {
		return TooOld
	}
	return s.write(d, 0, false, now, w)
}

// Open sends a reserved entry for the first time. An entry that cannot be sent is removed from the window.
func (s *Session[T]) Open(id uint16, now int64, w Sink) SendResult {
	e := s.Out.Find(id)
	if e == nil || e.State != Reserved {
		return SentNow
	}
	result := TooOld
	if !e.Message.Expired(now) {
		result = s.write(&e.Delivery, id, false, now, w)
	}
	if result != SentNow {
		s.Out.Remove(id)
		return result
	}
	e.State = Sent
	return SentNow
}

// Release answers PUBREC: it writes PUBREL for an entry that is Received or Released.
func (s *Session[T]) Release(id uint16, w Sink) {
	e := s.Out.Find(id)
	if e == nil || (e.State != Received && e.State != Released) {
		return
	}
	e.State = Released
	w.Set(mqtt.AppendAck(w.Buf(), mqtt.PUBREL, id, mqtt.Success, s.limits.Version))
}

// Resend repeats, after a reconnect, what is not acknowledged: PUBLISH with DUP, or PUBREL, with their identifiers and in
// their order [MQTT-4.4.0-1, MQTT-4.6.0-1]. Expiry does not stop a message that was sent before [MQTT-4.3.3-7]. What the peer's Receive
// Maximum leaves out [MQTT-4.9.0-1] is for ResendMore. Entries beyond its Maximum Packet Size are given to dropped and removed. It
// returns the number of packets written. room says whether the peer takes more now.
func (s *Session[T]) Resend(now int64, w Sink, room func() bool, dropped func(Inflight[T])) (written int) {
	for e := range s.Out.Window {
		switch e.State {
		case Sent:
			e.State = Unsent
			s.Out.late++
		case Received, Released:
			e.State = Released
			w.Set(mqtt.AppendAck(w.Buf(), mqtt.PUBREL, e.ID, mqtt.Success, s.limits.Version))
			written++
		}
	}
	return written + s.ResendMore(now, w, room, dropped)
}

// ResendMore goes on with Resend as far as the window has room now.
func (s *Session[T]) ResendMore(now int64, w Sink, room func() bool, dropped func(Inflight[T])) (written int) {
	if s.Out.late == 0 {
		return 0
	}
	var large []uint16
	for e := range s.Out.Window {
		if s.Out.n-s.Out.late >= int32(s.Out.max) || !room() {
			break
		}
		if e.State != Unsent {
			continue
		}
		e.State = Sent
		s.Out.late--
		if s.write(&e.Delivery, e.ID, true, now, w) == TooLarge {
			large = append(large, e.ID)
			continue
		}
		written++
	}
	for _, id := range large {
		if e, ok := s.Out.Remove(id); ok {
			dropped(e)
		}
	}
	return written
}

// write encodes one PUBLISH. id 0 means QoS 0.
func (s *Session[T]) write(d *Delivery[T], id uint16, dup bool, now int64, w Sink) SendResult {
	m := d.Message
	flags := byte(d.QoS) << 1
	if id == 0 {
		flags = 0
	}
	if d.Retain {
		flags |= 1
	}
	if dup {
		flags |= 8
	}
	topic, props, fresh := m.Topic, mqtt.Properties(nil), false
	if s.limits.Version == mqtt.V5 {
		var alias uint16
		var known bool
		if most := s.limits.AliasesOut; most > 0 && len(m.Topic) >= aliasWorth {
			alias, known = s.ofFive().toPeer.use(m.Topic, most)
		}
		props = s.properties(d, alias, now)
		fresh = alias != 0 && !known
		if known {
			topic = ""
		}
	}
	if s.tooLarge(topic, d, props) {
		if !fresh {
			return TooLarge
		}
		s.five.toPeer.forget(m.Topic) // it may fit without the alias
		if props = s.properties(d, 0, now); s.tooLarge(topic, d, props) {
			return TooLarge
		}
	}
	b := mqtt.AppendPublishHeader(w.Buf(), flags, topic, id, s.limits.Version, props, len(m.Payload))
	if len(m.Payload) < RefSize {
		w.Set(append(b, m.Payload...))
		return SentNow
	}
	w.Set(b)
	w.Ref(m.Payload)
	return SentNow
}

func (s *Session[T]) tooLarge(topic string, d *Delivery[T], props mqtt.Properties) bool {
	limit := s.limits.MaxPacket
	return limit != 0 && mqtt.PublishSize(len(topic), d.QoS, s.limits.Version, len(props), len(d.Message.Payload)) > int(limit)
}

// properties builds the properties of one PUBLISH in the scratch: those that travel with the message, the expiry less
// the time waited [MQTT-3.3.2-6], subscription identifiers and alias.
func (s *Session[T]) properties(d *Delivery[T], alias uint16, now int64) mqtt.Properties {
	m := d.Message
	if alias == 0 && len(d.Identifiers) == 0 && m.Expiry == 0 {
		return m.Properties
	}
	f := s.ofFive()
	p := m.AppendProperties(f.props[:0], now)
	for _, id := range d.Identifiers {
		p = mqtt.AppendPropVarInt(p, mqtt.PropSubscriptionIdentifier, id)
	}
	if alias != 0 {
		p = mqtt.AppendPropUint16(p, mqtt.PropTopicAlias, alias)
	}
	f.props = p
	return p
}
