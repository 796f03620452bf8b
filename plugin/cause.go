// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import "github.com/noctule/noctule/mqtt"

// Cause says why something ended, was refused or was dropped. The list is closed: logs, metrics, events and 5.0 reason
// strings use these words and no others.
type Cause byte

// Causes. The first block ends connections, the second refuses connections, the third drops messages.
const (
	NoCause Cause = iota

	ClientDisconnected
	ClientDisconnectedWithWill
	ClientClosed
	NetworkError
	KeepAliveTimeout
	TakenOver
	MalformedPacket
	ProtocolError
	PacketTooLarge
	ReceiveMaximumExceeded
	TopicAliasInvalid
	TopicInvalid
	QoSNotSupported
	RetainNotSupported
	NotAuthorized
	ReauthenticationFailed
	LoginExpired
	SlowConsumer
	QuotaExceeded
	MessageRateTooHigh
	SessionExpired
	AdministrativeAction
	ServerMoved
	ServerShuttingDown
	StoreFailed
	InternalError

	ConnectTimeout
	UnsupportedVersion
	ClientIDInvalid
	BadCredentials
	AuthenticationMethod
	AuthenticatorFailed
	SessionOwner
	Banned
	TooManyAttempts
	TooManyConnections
	ForeignOrigin
	HandshakeFailed
	ServerUnavailable
	ConnectionRate
	Overload

	QueueFull
	MessageExpired
	ReceiverSlow
	ReceiverTooSmall
	ReceiverOffline
	NoSubscribers
	DeliveryRefused
	SessionEnded
	RetainedLimit
	PublishRefused
	StoreFull
	Conflated

	causes // how many
)

var causeWords = [causes]string{
	NoCause: "none",

	ClientDisconnected: "client_disconnected", ClientDisconnectedWithWill: "client_disconnected_with_will",
	ClientClosed: "client_closed", NetworkError: "network_error", KeepAliveTimeout: "keep_alive_timeout",
	TakenOver: "taken_over", MalformedPacket: "malformed_packet", ProtocolError: "protocol_error",
	PacketTooLarge: "packet_too_large", ReceiveMaximumExceeded: "receive_maximum_exceeded",
	TopicAliasInvalid: "topic_alias_invalid", TopicInvalid: "topic_invalid", QoSNotSupported: "qos_not_supported",
	RetainNotSupported: "retain_not_supported", NotAuthorized: "not_authorized",
	ReauthenticationFailed: "reauthentication_failed", LoginExpired: "login_expired", SlowConsumer: "slow_consumer", QuotaExceeded: "quota_exceeded",
	MessageRateTooHigh: "message_rate_too_high", SessionExpired: "session_expired",
	AdministrativeAction: "administrative_action", ServerMoved: "server_moved",
	ServerShuttingDown: "server_shutting_down", StoreFailed: "store_failed", InternalError: "internal_error",

	ConnectTimeout: "connect_timeout", UnsupportedVersion: "unsupported_version", ClientIDInvalid: "client_id_invalid",
	BadCredentials: "bad_credentials", AuthenticationMethod: "authentication_method",
	AuthenticatorFailed: "authenticator_failed", SessionOwner: "session_owner", Banned: "banned",
	TooManyAttempts: "too_many_attempts", TooManyConnections: "too_many_connections",
	ForeignOrigin: "foreign_origin", HandshakeFailed: "handshake_failed", ServerUnavailable: "server_unavailable",
	ConnectionRate: "connection_rate", Overload: "overload",

	QueueFull: "queue_full", MessageExpired: "message_expired", ReceiverSlow: "receiver_slow",
	ReceiverTooSmall: "receiver_too_small", ReceiverOffline: "receiver_offline", NoSubscribers: "no_subscribers",
	DeliveryRefused: "delivery_refused", SessionEnded: "session_ended", RetainedLimit: "retained_limit",
	PublishRefused: "publish_refused", StoreFull: "store_full", Conflated: "conflated",
}

// String is the cause in snake_case, as logs and metrics have it.
func (c Cause) String() string {
	if c < causes {
		return causeWords[c]
	}
	return "unknown"
}

// Causes yields all causes, for metrics that want a series for each.
func Causes() []Cause {
	all := make([]Cause, 0, causes)
	for c := NoCause + 1; c < causes; c++ {
		all = append(all, c)
	}
	return all
}

// Code is the 5.0 reason code that a client is told for the cause; the second result is false where nothing can be sent.
func (c Cause) Code() (mqtt.ReasonCode, bool) {
	code, ok := causeCodes[c]
	return code, ok
}

var causeCodes = map[Cause]mqtt.ReasonCode{
	KeepAliveTimeout: mqtt.KeepAliveTimeout, TakenOver: mqtt.SessionTakenOver, MalformedPacket: mqtt.MalformedPacket,
	ProtocolError: mqtt.ProtocolError, PacketTooLarge: mqtt.PacketTooLarge,
	ReceiveMaximumExceeded: mqtt.ReceiveMaximumExceeded, TopicAliasInvalid: mqtt.TopicAliasInvalid,
	TopicInvalid: mqtt.TopicNameInvalid, QoSNotSupported: mqtt.QoSNotSupported,
	RetainNotSupported: mqtt.RetainNotSupported, NotAuthorized: mqtt.NotAuthorized,
	ReauthenticationFailed: mqtt.NotAuthorized, LoginExpired: mqtt.NotAuthorized, SlowConsumer: mqtt.QuotaExceeded, QuotaExceeded: mqtt.QuotaExceeded,
	MessageRateTooHigh: mqtt.MessageRateTooHigh, AdministrativeAction: mqtt.AdministrativeAction,
	ServerMoved: mqtt.ServerMoved, ServerShuttingDown: mqtt.ServerShuttingDown, StoreFailed: mqtt.ServerUnavailable,
	InternalError: mqtt.UnspecifiedError, UnsupportedVersion: mqtt.UnsupportedProtocolVersion,
	ClientIDInvalid: mqtt.ClientIdentifierNotValid, BadCredentials: mqtt.BadUserNameOrPassword,
	AuthenticationMethod: mqtt.BadAuthenticationMethod, AuthenticatorFailed: mqtt.BadUserNameOrPassword,
	SessionOwner: mqtt.NotAuthorized, Banned: mqtt.Banned, TooManyAttempts: mqtt.ConnectionRateExceeded, TooManyConnections: mqtt.ServerBusy, ServerUnavailable: mqtt.ServerUnavailable,
	ConnectionRate: mqtt.ConnectionRateExceeded, Overload: mqtt.ServerBusy,
}
