// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package mqtt

import "fmt"

// ReasonCode is the result of an operation, as 5.0 has it. Inside the house it serves for all versions; Connack3 and
// the encoders of SUBACK and UNSUBACK translate it for 3.1 and 3.1.1. A reason code is not an error.
type ReasonCode byte

// The reason codes of the 5.0 standard, table 2-6. Three names share the value 0.
const (
	Success             ReasonCode = 0x00
	NormalDisconnection ReasonCode = 0x00
	GrantedQoS0         ReasonCode = 0x00

	GrantedQoS1               ReasonCode = 0x01
	GrantedQoS2               ReasonCode = 0x02
	DisconnectWithWillMessage ReasonCode = 0x04
	NoMatchingSubscribers     ReasonCode = 0x10
	NoSubscriptionExisted     ReasonCode = 0x11
	ContinueAuthentication    ReasonCode = 0x18
	ReAuthenticate            ReasonCode = 0x19

	UnspecifiedError                    ReasonCode = 0x80
	MalformedPacket                     ReasonCode = 0x81
	ProtocolError                       ReasonCode = 0x82
	ImplementationSpecificError         ReasonCode = 0x83
	UnsupportedProtocolVersion          ReasonCode = 0x84
	ClientIdentifierNotValid            ReasonCode = 0x85
	BadUserNameOrPassword               ReasonCode = 0x86
	NotAuthorized                       ReasonCode = 0x87
	ServerUnavailable                   ReasonCode = 0x88
	ServerBusy                          ReasonCode = 0x89
	Banned                              ReasonCode = 0x8A
	ServerShuttingDown                  ReasonCode = 0x8B
	BadAuthenticationMethod             ReasonCode = 0x8C
	KeepAliveTimeout                    ReasonCode = 0x8D
	SessionTakenOver                    ReasonCode = 0x8E
	TopicFilterInvalid                  ReasonCode = 0x8F
	TopicNameInvalid                    ReasonCode = 0x90
	PacketIdentifierInUse               ReasonCode = 0x91
	PacketIdentifierNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded              ReasonCode = 0x93
	TopicAliasInvalid                   ReasonCode = 0x94
	PacketTooLarge                      ReasonCode = 0x95
	MessageRateTooHigh                  ReasonCode = 0x96
	QuotaExceeded                       ReasonCode = 0x97
	AdministrativeAction                ReasonCode = 0x98
	PayloadFormatInvalid                ReasonCode = 0x99
	RetainNotSupported                  ReasonCode = 0x9A
	QoSNotSupported                     ReasonCode = 0x9B
	UseAnotherServer                    ReasonCode = 0x9C
	ServerMoved                         ReasonCode = 0x9D
	SharedSubscriptionsNotSupported     ReasonCode = 0x9E
	ConnectionRateExceeded              ReasonCode = 0x9F
	MaximumConnectTime                  ReasonCode = 0xA0
	SubscriptionIdentifiersNotSupported ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported   ReasonCode = 0xA2
)

// reason says what a code is called, and in which packets it may stand. packets is a set of 1<<PacketType.
type reason struct {
	name    string
	packets uint16
}

// Sets of packets that list the same codes.
const (
	inConnack    = 1 << CONNACK
	inDisconnect = 1 << DISCONNECT
	inAuth       = 1 << AUTH
	inPublishAck = 1<<PUBACK | 1<<PUBREC
	inRelease    = 1<<PUBREL | 1<<PUBCOMP
	inSuback     = 1 << SUBACK
	inUnsuback   = 1 << UNSUBACK
	inAcks       = inPublishAck | inSuback | inUnsuback
)

// reasons is table 2-6 together with the lists of each packet ([MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1],
// [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1], [MQTT-3.15.2-1]). Bad
// authentication method is listed for DISCONNECT in table 2-6 only; it is let through.
var reasons = [256]reason{
	Success:                   {"Success", inConnack | inPublishAck | inRelease | inSuback | inUnsuback | inDisconnect | inAuth},
	GrantedQoS1:               {"Granted QoS 1", inSuback},
	GrantedQoS2:               {"Granted QoS 2", inSuback},
	DisconnectWithWillMessage: {"Disconnect with Will Message", inDisconnect},
	NoMatchingSubscribers:     {"No matching subscribers", inPublishAck},
	NoSubscriptionExisted:     {"No subscription existed", inUnsuback},
	ContinueAuthentication:    {"Continue authentication", inAuth},
	ReAuthenticate:            {"Re-authenticate", inAuth},

	UnspecifiedError:                    {"Unspecified error", inConnack | inAcks | inDisconnect},
	MalformedPacket:                     {"Malformed Packet", inConnack | inDisconnect},
	ProtocolError:                       {"Protocol Error", inConnack | inDisconnect},
	ImplementationSpecificError:         {"Implementation specific error", inConnack | inAcks | inDisconnect},
	UnsupportedProtocolVersion:          {"Unsupported Protocol Version", inConnack},
	ClientIdentifierNotValid:            {"Client Identifier not valid", inConnack},
	BadUserNameOrPassword:               {"Bad User Name or Password", inConnack},
	NotAuthorized:                       {"Not authorized", inConnack | inAcks | inDisconnect},
	ServerUnavailable:                   {"Server unavailable", inConnack},
	ServerBusy:                          {"Server busy", inConnack | inDisconnect},
	Banned:                              {"Banned", inConnack},
	ServerShuttingDown:                  {"Server shutting down", inDisconnect},
	BadAuthenticationMethod:             {"Bad authentication method", inConnack | inDisconnect},
	KeepAliveTimeout:                    {"Keep Alive timeout", inDisconnect},
	SessionTakenOver:                    {"Session taken over", inDisconnect},
	TopicFilterInvalid:                  {"Topic Filter invalid", inSuback | inUnsuback | inDisconnect},
	TopicNameInvalid:                    {"Topic Name invalid", inConnack | inPublishAck | inDisconnect},
	PacketIdentifierInUse:               {"Packet Identifier in use", inAcks},
	PacketIdentifierNotFound:            {"Packet Identifier not found", inRelease},
	ReceiveMaximumExceeded:              {"Receive Maximum exceeded", inDisconnect},
	TopicAliasInvalid:                   {"Topic Alias invalid", inDisconnect},
	PacketTooLarge:                      {"Packet too large", inConnack | inDisconnect},
	MessageRateTooHigh:                  {"Message rate too high", inDisconnect},
	QuotaExceeded:                       {"Quota exceeded", inConnack | inPublishAck | inSuback | inDisconnect},
	AdministrativeAction:                {"Administrative action", inDisconnect},
	PayloadFormatInvalid:                {"Payload format invalid", inConnack | inPublishAck | inDisconnect},
	RetainNotSupported:                  {"Retain not supported", inConnack | inDisconnect},
	QoSNotSupported:                     {"QoS not supported", inConnack | inDisconnect},
	UseAnotherServer:                    {"Use another server", inConnack | inDisconnect},
	ServerMoved:                         {"Server moved", inConnack | inDisconnect},
	SharedSubscriptionsNotSupported:     {"Shared Subscriptions not supported", inSuback | inDisconnect},
	ConnectionRateExceeded:              {"Connection rate exceeded", inConnack | inDisconnect},
	MaximumConnectTime:                  {"Maximum connect time", inDisconnect},
	SubscriptionIdentifiersNotSupported: {"Subscription Identifiers not supported", inSuback | inDisconnect},
	WildcardSubscriptionsNotSupported:   {"Wildcard Subscriptions not supported", inSuback | inDisconnect},
}

// String returns the name that the standard gives the code; 0 is called Success.
func (c ReasonCode) String() string {
	if name := reasons[c].name; name != "" {
		return name
	}
	return fmt.Sprintf("reason code 0x%02X", byte(c))
}

// IsError reports whether the code stands for a failure (0x80 and above).
func (c ReasonCode) IsError() bool { return c >= 0x80 }

// AllowedIn reports whether 5.0 lists the code for packets of type t.
func (c ReasonCode) AllowedIn(t PacketType) bool { return t <= AUTH && reasons[c].packets>>t&1 != 0 }

// The return codes of CONNACK in 3.1 and 3.1.1.
const (
	connack3Accepted              = 0
	connack3UnacceptableVersion   = 1
	connack3IdentifierRejected    = 2
	connack3ServerUnavailable     = 3
	connack3BadUserNameOrPassword = 4
	connack3NotAuthorized         = 5
)

// Connack3 returns the CONNACK return code of 3.1 and 3.1.1 (0 to 5) that fits best. What may pass by itself becomes
// "server unavailable", what a repetition would not mend "not authorized". A CONNECT that is malformed or a violation gets
// no CONNACK at all in these versions [MQTT-3.1.4-1].
func (c ReasonCode) Connack3() byte {
	switch c {
	case Success:
		return connack3Accepted
	case UnsupportedProtocolVersion:
		return connack3UnacceptableVersion
	case ClientIdentifierNotValid:
		return connack3IdentifierRejected
	case BadUserNameOrPassword, BadAuthenticationMethod:
		return connack3BadUserNameOrPassword
	case NotAuthorized, Banned, TopicNameInvalid, PacketTooLarge, PayloadFormatInvalid, RetainNotSupported,
		QoSNotSupported, MalformedPacket, ProtocolError:
		return connack3NotAuthorized
	}
	return connack3ServerUnavailable
}

// connack5 translates the return code of a 3.1 or 3.1.1 CONNACK. ok is false for the reserved ones.
func connack5(code byte) (c ReasonCode, ok bool) {
	codes := [...]ReasonCode{
		connack3Accepted:              Success,
		connack3UnacceptableVersion:   UnsupportedProtocolVersion,
		connack3IdentifierRejected:    ClientIdentifierNotValid,
		connack3ServerUnavailable:     ServerUnavailable,
		connack3BadUserNameOrPassword: BadUserNameOrPassword,
		connack3NotAuthorized:         NotAuthorized,
	}
	if int(code) >= len(codes) {
		return 0, false
	}
	return codes[code], true
}
