// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"
	"fmt"
	"unicode/utf8"
	"unsafe"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/topic"
)

// receive takes one whole packet. An error ends the connection.
func (c *connection) receive(h mqtt.Header, body []byte, cfg *config) error {
	if c.state == fresh {
		return c.receiveConnect(h, body, cfg)
	}
	switch h.Type {
	case mqtt.PUBLISH:
		return c.receivePublish(h, body, cfg)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP:
		return c.receiveAck(h, body)
	case mqtt.PUBREL:
		return c.receivePubrel(h, body)
	case mqtt.SUBSCRIBE:
		return c.receiveSubscribe(h, body, cfg)
	case mqtt.UNSUBSCRIBE:
		return c.receiveUnsubscribe(h, body, cfg)
	case mqtt.PINGREQ:
		if len(body) != 0 {
			return &mqtt.Error{Code: mqtt.MalformedPacket, Op: "PINGREQ", Err: errors.New("it has no body")}
		}
		s := c.sink()
		s.out.Set(mqtt.AppendPingresp(s.out.Buf()))
		c.flushed(s, 1) // [MQTT-3.12.4-1]
		return nil
	case mqtt.DISCONNECT:
		return c.receiveDisconnect(h, body)
	case mqtt.AUTH:
		if c.version == mqtt.V5 {
			return c.receiveAuth(h, body)
		}
	}
	return &mqtt.Error{Code: mqtt.ProtocolError, Op: h.Type.String(), Err: errors.New("not expected from a client now")}
}

// checkTopic applies the limits to a topic name or filter that the decoder has found well formed.
func checkTopic(name []byte, l *Limits) error {
	if len(name) > l.MaxTopicLength {
		return &mqtt.Error{Code: mqtt.TopicNameInvalid, Op: "topic", Err: fmt.Errorf("longer than %d bytes", l.MaxTopicLength)}
	}
	if topic.Levels(view(name)) > l.MaxTopicLevels {
		return &mqtt.Error{Code: mqtt.TopicNameInvalid, Op: "topic", Err: fmt.Errorf("more than %d levels", l.MaxTopicLevels)}
	}
	return nil
}

// view lends bytes as a string for the length of a call.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf lends a string as bytes for the length of a call that only reads.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func (c *connection) receivePublish(h mqtt.Header, body []byte, cfg *config) error {
	sh := c.sh
	p := &sh.publish
	if err := sh.decodePublish(h, body, c.version, cfg); err != nil {
		return err
	}
	if err := p.CheckClient(); err != nil {
		return err
	}
	sh.count(PublishReceived, 1)
	sh.count(PublishBytesReceived, len(p.Payload))
	if err := c.sess.ResolveAlias(p); err != nil {
		return err
	}
	if err := c.checkPublish(p, cfg); err != nil {
		return err
	}
	if p.QoS > 0 {
		arrival, err := c.sess.In.Begin(p.QoS, p.ID)
		if err != nil {
			return err
		}
		if arrival != session.Take {
			if arrival == session.Repeat {
				c.writeAck(mqtt.PUBREC, p.ID, mqtt.Success)
			}
			return nil
		}
	}
	if c.bound != nil && len(c.bound.in) > 0 && !c.mayPublish(p, h, 1+lengthOf(len(body))+len(body)) {
		return nil
	}
	if !c.mayKeep(p) {
		return nil
	}
	code := publishFault(p, cfg)
	if code != mqtt.Success {
		c.refusePublish(p.QoS, p.ID, code)
		return nil
	}
	return c.decidePublish(p, cfg)
}

// decodePublish decodes into sh.publish. Topic names that clients use again and again have been looked at before, under the same limits.
func (sh *shard) decodePublish(h mqtt.Header, body []byte, v mqtt.Version, cfg *config) error {
	if sh.judged != cfg {
		sh.judged = cfg
		sh.topics.Forget()
	}
	if sh.known = sh.topics.Known(mqtt.PeekTopic(body)); sh.known != nil {
		return sh.publish.DecodeKnown(h, body, v)
	}
	return sh.publish.Decode(h, body, v)
}

// checkPublish finds what ends the connection.
func (c *connection) checkPublish(p *mqtt.Publish, cfg *config) error {
	l := c.lim(cfg)
	switch {
	case p.QoS > l.MaxQoS:
		return &mqtt.Error{Code: mqtt.QoSNotSupported, Op: "PUBLISH", Err: errors.New("above Maximum QoS")} // [MQTT-3.2.2-11]
	case p.Retain && !l.RetainAvailable:
		return &mqtt.Error{Code: mqtt.RetainNotSupported, Op: "PUBLISH", Err: errors.New("retained messages are not available")} // [MQTT-3.2.2-14]
	case len(p.Properties) > 0 && p.Properties.CountUser() > l.MaxUserProperties:
		return &mqtt.Error{Code: mqtt.ImplementationSpecificError, Op: "PUBLISH", Err: errTooManyProperties}
	}
	if c.sh.known != nil && (c.bound == nil || c.bound.limits == nil) {
		return nil
	}
	return checkTopic(p.Topic, l)
}

// publishFault finds what is answered with a reason code.
func publishFault(p *mqtt.Publish, cfg *config) mqtt.ReasonCode {
	if p.Topic[0] == '$' && (string(p.Topic) == "$SYS" || len(p.Topic) > 4 && string(p.Topic[:5]) == "$SYS/") {
		return mqtt.NotAuthorized // the broker's own
	}
	if cfg.policy.ValidatePayload && len(p.Properties) > 0 {
		if f, ok := p.Properties.Byte(mqtt.PropPayloadFormatIndicator); ok && f == 1 && !utf8.Valid(p.Payload) {
			return mqtt.PayloadFormatInvalid
		}
	}
	return mqtt.Success
}

// decidePublish asks whether a message may be published, and takes it.
func (c *connection) decidePublish(p *mqtt.Publish, cfg *config) error {
	b := c.sh.b
	if !b.hooks.authorizes(c.client) {
		c.takePublish(p)
		return nil
	}
	a := &c.sh.access
	*a = plugin.Access{Client: c.client, Action: plugin.Publish, Topic: view(p.Topic), QoS: p.QoS, Retain: p.Retain}
	d, undecided := c.decide(a)
	if undecided {
		m, id := c.message(p), p.ID
		slow := *a
		slow.Topic = m.Topic
		c.decideAccess(slow, func(c *connection, d plugin.Decision) {
			if d.Verdict == plugin.Allow {
				c.takeMessage(m, id)
				return
			}
			b.log.Debug("publish denied", "client", c.client.ID, "name", m.Topic, "rule", d.Rule)
			c.denyPublish(m.QoS, id, d)
		})
		return nil
	}
	if d.Verdict == plugin.Allow {
		c.takePublish(p)
		return nil
	}
	b.log.Debug("publish denied", "client", c.client.ID, "name", string(p.Topic), "rule", d.Rule)
	c.denyPublish(p.QoS, p.ID, d)
	return nil
}

func (c *connection) denyPublish(q mqtt.QoS, id uint16, d plugin.Decision) {
	code := d.Code
	if code == 0 {
		code = mqtt.NotAuthorized
	}
	if c.sh.b.config.Load().policy.DisconnectOnDeny {
		c.closeWith(plugin.NotAuthorized, code, "")
		return
	}
	c.refusePublish(q, id, code)
}

// refusePublish answers a message that goes nowhere: with the code where the version has one, else as usual
// [MQTT-3.3.5-2].
func (c *connection) refusePublish(q mqtt.QoS, id uint16, code mqtt.ReasonCode) {
	c.sh.tally.dropped[plugin.PublishRefused].Add(1)
	if q == 0 {
		return
	}
	if c.version != mqtt.V5 {
		code = mqtt.Success
	}
	c.accepted(q, id, code)
}

// accepted answers a message of QoS 1 or 2 that Begin counted in.
func (c *connection) accepted(q mqtt.QoS, id uint16, code mqtt.ReasonCode) {
	s := c.sink()
	c.sess.In.Accepted(q, id, code, c.version, s.out)
	c.flushed(s, 1)
	if c.hold&holdPending != 0 && c.sess.In.Pending() <= int(c.sess.Limits().OwnMaximum)/2 {
		c.resume(holdPending)
	}
	c.leaveIfIdle()
}

func (c *connection) writeAck(t mqtt.PacketType, id uint16, code mqtt.ReasonCode) {
	s := c.sink()
	s.out.Set(mqtt.AppendAck(s.out.Buf(), t, id, code, c.version))
	c.flushed(s, 1)
}

// message clones what a PUBLISH carries.
func (c *connection) message(p *mqtt.Publish) *mqtt.Message {
	m := p.Message(c.sh.loop.Now())
	m.ClientID, m.Username = c.client.ID, c.client.Username
	return m
}

// takePublish routes an allowed PUBLISH. QoS 0 goes without a clone where nobody needs one.
func (c *connection) takePublish(p *mqtt.Publish) {
	if p.QoS == 0 && !p.Retain && c.sh.b.viewSuffices {
		c.sh.routeView(c, p)
		return
	}
	c.takeMessage(c.message(p), p.ID)
}

// takeMessage routes an allowed message.
func (c *connection) takeMessage(m *mqtt.Message, id uint16) {
	b := c.sh.b
	if len(b.hooks.publishers) > 0 {
		if code := b.interceptPublish(c.client, m); code.IsError() {
			c.refusePublish(m.QoS, id, code)
			return
		}
	}
	if m.Retain && len(m.Payload) > 0 && c.bound != nil {
		if a := c.mayRetain(m); a != nil {
			c.refuseRetained(a, m, id)
			return
		}
	}
	b.events.message(c.sh, messageReceived, c.client.ID, m, plugin.NoCause)
	c.sh.route(m, origin{c: c, id: id})
	if c.sess.In.Pending() >= int(c.sess.Limits().OwnMaximum) && c.version != mqtt.V5 {
		c.stop(holdPending)
	}
}

// receiveAck takes PUBACK, PUBREC or PUBCOMP.
func (c *connection) receiveAck(h mqtt.Header, body []byte) error {
	p := &c.sh.ack
	if err := p.Decode(h, body, c.version); err != nil {
		return err
	}
	result, e := c.sess.Out.Acknowledge(p.Type, p.ID, p.Code)
	switch result {
	case session.Done, session.Refused:
		c.delivered(&e)
		c.pump()
	case session.ToRelease:
		if c.kept != nil && e.State == session.Received {
			c.keepWindow(e.ID)
			return nil
		}
		s := c.sink()
		c.sess.Release(p.ID, s.out)
		c.flushed(s, 1)
	case session.Ignored:
		if p.Type == mqtt.PUBREC && !p.Code.IsError() {
			// [MQTT-4.3.3-4]; 0x92 says that we have forgotten the message.
			c.writeAck(mqtt.PUBREL, p.ID, mqtt.PacketIdentifierNotFound)
		}
	}
	return nil
}

// delivered ends an outbound delivery: cursors and shared subscriptions are told.
func (c *connection) delivered(e *session.Inflight[tag]) {
	if c.kept != nil {
		c.sh.acks.add(c, e)
	}
	if m := e.Tag.member; m != nil {
		m.done(c.sh, e.Tag)
	}
	if e.Message != nil {
		c.sh.b.events.message(c.sh, messageAcknowledged, c.client.ID, e.Message, plugin.NoCause)
	}
}

// receivePubrel ends an inbound QoS 2 message: PUBCOMP follows once a persistent session's store has forgotten it.
func (c *connection) receivePubrel(h mqtt.Header, body []byte) error {
	p := &c.sh.ack
	if err := p.Decode(h, body, c.version); err != nil {
		return err
	}
	known := c.sess.In.Release(p.ID)
	if known && c.kept != nil {
		c.forgetID(p.ID)
		return nil
	}
	code := mqtt.Success
	if !known {
		code = mqtt.PacketIdentifierNotFound
	}
	c.writeAck(mqtt.PUBCOMP, p.ID, code)
	return nil
}

func (c *connection) receiveDisconnect(h mqtt.Header, body []byte) error {
	p := &c.sh.disconnect
	if err := p.Decode(h, body, c.version); err != nil {
		return err // [MQTT-3.14.1-1]
	}
	if err := p.CheckClient(); err != nil {
		return err
	}
	if c.state != open {
		c.close(plugin.ClientDisconnected, "")
		return nil
	}
	if v, ok := p.Properties.Uint32(mqtt.PropSessionExpiryInterval); ok {
		if v > 0 && (c.kept == nil || c.kept.expiry == 0) {
			return &mqtt.Error{Code: mqtt.ProtocolError, Op: "DISCONNECT",
				Err: errors.New("session expiry interval was 0 at CONNECT")} // section 3.14.2.2.2
		}
		if c.kept != nil {
			c.kept.expiry = min(v, c.offering(c.sh.b.config.Load()).MaxSessionExpiry)
		}
	}
	if p.Code == mqtt.DisconnectWithWillMessage {
		c.close(plugin.ClientDisconnectedWithWill, "")
		return nil
	}
	if p.Code != mqtt.Success {
		c.close(plugin.ClientDisconnectedWithWill, p.Code.String()) // only 0x00 drops the will
		return nil
	}
	c.close(plugin.ClientDisconnected, "") // the will is dropped [MQTT-3.14.4-3]
	return nil
}
