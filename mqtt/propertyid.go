// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "fmt"

// PropertyID names a property of 5.0.
type PropertyID byte

// The properties of the 5.0 standard, table 2-4.
const (
	PropPayloadFormatIndicator          PropertyID = 0x01
	PropMessageExpiryInterval           PropertyID = 0x02 // seconds
	PropContentType                     PropertyID = 0x03
	PropResponseTopic                   PropertyID = 0x08
	PropCorrelationData                 PropertyID = 0x09
	PropSubscriptionIdentifier          PropertyID = 0x0B
	PropSessionExpiryInterval           PropertyID = 0x11 // seconds
	PropAssignedClientIdentifier        PropertyID = 0x12
	PropServerKeepAlive                 PropertyID = 0x13 // seconds
	PropAuthenticationMethod            PropertyID = 0x15
	PropAuthenticationData              PropertyID = 0x16
	PropRequestProblemInformation       PropertyID = 0x17
	PropWillDelayInterval               PropertyID = 0x18 // seconds
	PropRequestResponseInformation      PropertyID = 0x19
	PropResponseInformation             PropertyID = 0x1A
	PropServerReference                 PropertyID = 0x1C
	PropReasonString                    PropertyID = 0x1F
	PropReceiveMaximum                  PropertyID = 0x21
	PropTopicAliasMaximum               PropertyID = 0x22
	PropTopicAlias                      PropertyID = 0x23
	PropMaximumQoS                      PropertyID = 0x24
	PropRetainAvailable                 PropertyID = 0x25
	PropUserProperty                    PropertyID = 0x26
	PropMaximumPacketSize               PropertyID = 0x27 // bytes
	PropWildcardSubscriptionAvailable   PropertyID = 0x28
	PropSubscriptionIdentifierAvailable PropertyID = 0x29
	PropSharedSubscriptionAvailable     PropertyID = 0x2A
)

// propertySet is a set of places where a property may stand: 1<<PacketType, or inWill.
type propertySet uint16

const inWill propertySet = 1 // there is no packet type 0

// propertyKind is how a property's value is encoded, and which values it may have.
type propertyKind byte

const (
	kindNone      propertyKind = iota // no such property
	kindBool                          // one byte, 0 or 1
	kindUint16                        // two bytes
	kindNonZero16                     // two bytes, not 0
	kindAlias                         // two bytes, not 0, with a reason code of its own
	kindUint32                        // four bytes
	kindNonZero32                     // four bytes, not 0
	kindVarInt                        // variable byte integer, not 0
	kindBytes                         // binary data
	kindText                          // UTF-8 encoded string
	kindTopic                         // UTF-8 encoded string, a topic name
	kindPair                          // UTF-8 string pair
)

// property is a row of table 2-4.
type property struct {
	name string
	kind propertyKind
	in   propertySet
}

const (
	inMessage  = 1<<PUBLISH | inWill
	inHello    = 1<<CONNECT | 1<<CONNACK
	inAnswer   = 1<<CONNACK | 1<<PUBACK | 1<<PUBREC | 1<<PUBREL | 1<<PUBCOMP | 1<<SUBACK | 1<<UNSUBACK | 1<<DISCONNECT | 1<<AUTH
	inAnywhere = inAnswer | inMessage | 1<<CONNECT | 1<<SUBSCRIBE | 1<<UNSUBSCRIBE
)

// properties is table 2-4 with the values that the chapters on each packet allow.
var properties = [...]property{
	PropPayloadFormatIndicator:          {"Payload Format Indicator", kindBool, inMessage},
	PropMessageExpiryInterval:           {"Message Expiry Interval", kindUint32, inMessage},
	PropContentType:                     {"Content Type", kindText, inMessage},
	PropResponseTopic:                   {"Response Topic", kindTopic, inMessage},
	PropCorrelationData:                 {"Correlation Data", kindBytes, inMessage},
	PropSubscriptionIdentifier:          {"Subscription Identifier", kindVarInt, 1<<PUBLISH | 1<<SUBSCRIBE},
	PropSessionExpiryInterval:           {"Session Expiry Interval", kindUint32, inHello | 1<<DISCONNECT},
	PropAssignedClientIdentifier:        {"Assigned Client Identifier", kindText, 1 << CONNACK},
	PropServerKeepAlive:                 {"Server Keep Alive", kindUint16, 1 << CONNACK},
	PropAuthenticationMethod:            {"Authentication Method", kindText, inHello | 1<<AUTH},
	PropAuthenticationData:              {"Authentication Data", kindBytes, inHello | 1<<AUTH},
	PropRequestProblemInformation:       {"Request Problem Information", kindBool, 1 << CONNECT},
	PropWillDelayInterval:               {"Will Delay Interval", kindUint32, inWill},
	PropRequestResponseInformation:      {"Request Response Information", kindBool, 1 << CONNECT},
	PropResponseInformation:             {"Response Information", kindText, 1 << CONNACK},
	PropServerReference:                 {"Server Reference", kindText, 1<<CONNACK | 1<<DISCONNECT},
	PropReasonString:                    {"Reason String", kindText, inAnswer},
	PropReceiveMaximum:                  {"Receive Maximum", kindNonZero16, inHello},
	PropTopicAliasMaximum:               {"Topic Alias Maximum", kindUint16, inHello},
	PropTopicAlias:                      {"Topic Alias", kindAlias, 1 << PUBLISH},
	PropMaximumQoS:                      {"Maximum QoS", kindBool, 1 << CONNACK},
	PropRetainAvailable:                 {"Retain Available", kindBool, 1 << CONNACK},
	PropUserProperty:                    {"User Property", kindPair, inAnywhere},
	PropMaximumPacketSize:               {"Maximum Packet Size", kindNonZero32, inHello},
	PropWildcardSubscriptionAvailable:   {"Wildcard Subscription Available", kindBool, 1 << CONNACK},
	PropSubscriptionIdentifierAvailable: {"Subscription Identifier Available", kindBool, 1 << CONNACK},
	PropSharedSubscriptionAvailable:     {"Shared Subscription Available", kindBool, 1 << CONNACK},
}

// row returns the table's row of id; its kind is kindNone if there is no such property.
func (id PropertyID) row() property {
	if int(id) < len(properties) {
		return properties[id]
	}
	return property{}
}

// String returns the name that the standard gives the property.
func (id PropertyID) String() string {
	if name := id.row().name; name != "" {
		return name
	}
	return fmt.Sprintf("property 0x%02X", byte(id))
}
