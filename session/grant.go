// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"

	"github.com/noctule/noctule/mqtt"
)

// Offer is what a server grants at most.
type Offer struct {
	MaxPacket        uint32   // bytes; announced [MQTT-3.2.2-15]
	ReceiveMaximum   uint16   // QoS 1 and 2 messages taken at once from one client
	SendMaximum      uint16   // cap on the window towards a client, whatever it offers
	TopicAliasesIn   uint16   // Topic Alias Maximum, announced
	TopicAliasesOut  uint16   // cap on the aliases that the server makes itself
	MaxKeepAlive     uint16   // seconds; 0 = no cap
	MaxSessionExpiry uint32   // seconds; 0xFFFFFFFF = no cap. Sessions of 3.x clients last as long as this
	MaxQoS           mqtt.QoS // 2 = all
	NoRetain         bool     // retained messages are not available
	NoWildcard       bool     // wildcard subscriptions are not available
	NoShared         bool     // shared subscriptions are not available
	NoIdentifiers    bool     // subscription identifiers are not available
	MaxClientID      int      // bytes; 0 = no cap but the standard's
}

// Terms are what a CONNECT was granted.
type Terms struct {
	Limits          Limits
	KeepAlive       uint16 // seconds; 0 = none
	ServerKeepAlive bool   // KeepAlive is ours, the client has to be told [MQTT-3.1.2-21]
	Expiry          uint32 // session expiry interval, seconds; 0 = ends with the connection
	ExpiryChanged   bool   // Expiry is less than the client asked for
	ProblemInfo     bool   // reason strings and user properties are welcome on all packets [MQTT-3.1.2-29]
	ResponseInfo    bool   // Response Information was asked for
	AssignID        bool   // the client identifier is empty: one has to be assigned [MQTT-3.1.3-6]
}

// Grant checks a CONNECT against an offer. The error holds the reason code for the CONNACK that refuses it.
func Grant(c *mqtt.Connect, o *Offer) (Terms, *mqtt.Error) {
	t := Terms{
		Limits:    Limits{Version: c.Version, ReceiveMaximum: 0xFFFF, OwnMaximum: o.ReceiveMaximum},
		KeepAlive: c.KeepAlive,
	}
	if err := checkClientID(c, o); err != nil {
		return t, err
	}
	t.AssignID = len(c.ClientID) == 0
	if c.HasWill && c.Will.QoS > o.MaxQoS {
		return t, refuse(mqtt.QoSNotSupported, "will QoS is above the maximum") // [MQTT-3.2.2-12]
	}
	if c.HasWill && c.Will.Retain && o.NoRetain {
		return t, refuse(mqtt.RetainNotSupported, "retained messages are not available") // [MQTT-3.2.2-13]
	}
	if c.Version == mqtt.V5 {
		t.grant5(c, o)
	} else if !c.CleanStart {
		t.Expiry = o.MaxSessionExpiry
	}
	if o.MaxKeepAlive != 0 && c.Version == mqtt.V5 && (t.KeepAlive == 0 || t.KeepAlive > o.MaxKeepAlive) {
		t.KeepAlive, t.ServerKeepAlive = o.MaxKeepAlive, true
	}
	t.Limits.ReceiveMaximum = min(t.Limits.ReceiveMaximum, o.SendMaximum)
	return t, nil
}

// Tighten applies a narrower offer to what was granted, before the client is told.
func (t *Terms) Tighten(o *Offer) {
	t.Limits.OwnMaximum = min(t.Limits.OwnMaximum, o.ReceiveMaximum)
	t.Limits.ReceiveMaximum = min(t.Limits.ReceiveMaximum, o.SendMaximum)
	if t.Expiry > o.MaxSessionExpiry {
		t.Expiry, t.ExpiryChanged = o.MaxSessionExpiry, t.Limits.Version == mqtt.V5
	}
}

func checkClientID(c *mqtt.Connect, o *Offer) *mqtt.Error {
	switch {
	case len(c.ClientID) == 0 && c.Version == mqtt.V31:
		return refuse(mqtt.ClientIdentifierNotValid, "MQTT 3.1 wants a client identifier")
	case len(c.ClientID) == 0 && c.Version == mqtt.V311 && !c.CleanStart: // [MQTT-3.1.3-8]
		return refuse(mqtt.ClientIdentifierNotValid, "an empty client identifier wants CleanSession 1")
	case o.MaxClientID != 0 && len(c.ClientID) > o.MaxClientID:
		return refuse(mqtt.ClientIdentifierNotValid, "client identifier is too long")
	}
	return nil
}

func (t *Terms) grant5(c *mqtt.Connect, o *Offer) {
	p := c.Properties
	if v, ok := p.Uint16(mqtt.PropReceiveMaximum); ok {
		t.Limits.ReceiveMaximum = v
	}
	if v, ok := p.Uint32(mqtt.PropMaximumPacketSize); ok {
		t.Limits.MaxPacket = v
	}
	if v, ok := p.Uint16(mqtt.PropTopicAliasMaximum); ok {
		t.Limits.AliasesOut = min(v, o.TopicAliasesOut)
	}
	t.Limits.AliasesIn = o.TopicAliasesIn
	t.Expiry, _ = p.Uint32(mqtt.PropSessionExpiryInterval)
	if t.Expiry > o.MaxSessionExpiry {
		t.Expiry, t.ExpiryChanged = o.MaxSessionExpiry, true
	}
	problem, ok := p.Byte(mqtt.PropRequestProblemInformation)
	t.ProblemInfo = !ok || problem == 1
	response, _ := p.Byte(mqtt.PropRequestResponseInformation)
	t.ResponseInfo = response == 1
}

// ConnackProperties appends what the client is told of the terms.
func (t *Terms) ConnackProperties(p mqtt.Properties, o *Offer, assigned string) mqtt.Properties {
	if t.Limits.Version != mqtt.V5 {
		return p
	}
	if t.ExpiryChanged {
		p = mqtt.AppendPropUint32(p, mqtt.PropSessionExpiryInterval, t.Expiry)
	}
	if o.ReceiveMaximum < 0xFFFF {
		p = mqtt.AppendPropUint16(p, mqtt.PropReceiveMaximum, o.ReceiveMaximum)
	}
	if o.MaxQoS < 2 {
		p = mqtt.AppendPropByte(p, mqtt.PropMaximumQoS, byte(o.MaxQoS))
	}
	if o.MaxPacket != 0 {
		p = mqtt.AppendPropUint32(p, mqtt.PropMaximumPacketSize, o.MaxPacket)
	}
	if assigned != "" {
		p = mqtt.AppendPropString(p, mqtt.PropAssignedClientIdentifier, assigned)
	}
	if o.TopicAliasesIn > 0 {
		p = mqtt.AppendPropUint16(p, mqtt.PropTopicAliasMaximum, o.TopicAliasesIn)
	}
	for _, feature := range []struct {
		id      mqtt.PropertyID
		missing bool
	}{
		{mqtt.PropRetainAvailable, o.NoRetain}, {mqtt.PropWildcardSubscriptionAvailable, o.NoWildcard},
		{mqtt.PropSubscriptionIdentifierAvailable, o.NoIdentifiers}, {mqtt.PropSharedSubscriptionAvailable, o.NoShared},
	} {
		if feature.missing {
			p = mqtt.AppendPropByte(p, feature.id, 0)
		}
	}
	if t.ServerKeepAlive {
		p = mqtt.AppendPropUint16(p, mqtt.PropServerKeepAlive, t.KeepAlive)
	}
	return p
}

func refuse(code mqtt.ReasonCode, why string) *mqtt.Error {
	return &mqtt.Error{Code: code, Op: "CONNECT", Err: errors.New(why)}
}
