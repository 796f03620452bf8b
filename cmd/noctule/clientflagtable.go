// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// clientFlag is a flag of the table.
type clientFlag struct {
	names string // apart by blanks
	verbs string // that know it: p, s, r
	arg   string // what follows, for people; empty if nothing does
	help  string
	set   func(f *clientFlags, v string) error
}

func textFlag(field func(*clientFlags) *string) func(*clientFlags, string) error {
	return func(f *clientFlags, v string) error { *field(f) = v; return nil }
}

func yesFlag(field func(*clientFlags) *bool) func(*clientFlags, string) error {
	return func(f *clientFlags, _ string) error { *field(f) = true; return nil }
}

func numberFlag(what string, from, to int, set func(*clientFlags, int)) func(*clientFlags, string) error {
	return func(f *clientFlags, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < from || n > to {
			return fmt.Errorf("invalid %s %q: it must be between %d and %d", what, v, from, to)
		}
		set(f, n)
		return nil
	}
}

// refused makes a flag that is known, and cannot be obeyed.
func refusedFlag(why string) func(*clientFlags, string) error {
	return func(*clientFlags, string) error { return errors.New(why) }
}

const (
	noEngines = "OpenSSL engines do not exist here; give the key as a PEM file with --key"
	noPSK     = "TLS with pre-shared keys is not available; use --cafile, or --cert and --key"
	noCiphers = "cipher suites are chosen by the program; --tls-version sets the lowest version"
)

// clientFlagTable has every flag of the three verbs, in the order of their help.
var clientFlagTable = []clientFlag{
	{"-h --host", "psr", "HOST", "server; 127.0.0.1 if not given", textFlag(func(f *clientFlags) *string { return &f.host })},
	{"-p --port", "psr", "PORT", "1883, 8883 with TLS, 80 or 443 with --ws if not given", numberFlag("port", 1, 65535, func(f *clientFlags, n int) { f.port = n })},
	{"--unix", "psr", "PATH", "connect to a Unix socket", textFlag(func(f *clientFlags) *string { return &f.unix })},
	{"-L --url", "psr", "URL", "mqtt(s)://, ws(s)://[user[:password]@]host[:port]/topic", (*clientFlags).setURL},
	{"--ws", "psr", "", "use WebSocket", yesFlag(func(f *clientFlags) *bool { return &f.ws })},
	{"-A", "psr", "ADDRESS", "connect from this local address", textFlag(func(f *clientFlags) *string { return &f.bind })},
	{"--proxy", "psr", "URL", "SOCKS5 proxy, socks5h://[user[:password]@]host[:port]", textFlag(func(f *clientFlags) *string { return &f.proxy })},
	{"-S", "psr", "", "find the server by an SRV record", refusedFlag("SRV records are not looked up; give the server with -h")},
	{"--nodelay", "psr", "", "accepted: it is always so", func(*clientFlags, string) error { return nil }},
	{"-u --username", "psr", "NAME", "user name", textFlag(func(f *clientFlags) *string { return &f.username })},
	{"-P --pw", "psr", "PASSWORD", "password", func(f *clientFlags, v string) error { f.password = &v; return nil }},
	{"-i --id", "psr", "ID", "client identifier", textFlag(func(f *clientFlags) *string { return &f.id })},
	{"-I --id-prefix", "psr", "PREFIX", "client identifier: this and the process number", textFlag(func(f *clientFlags) *string { return &f.idPrefix })},
	{"-V --protocol-version", "psr", "VERSION", "5, 311 or 31 (or mqttv5, mqttv311, mqttv31); 311, and 5 with -D or in rr, if not given", (*clientFlags).setVersion},
	{"-k --keepalive", "psr", "SECONDS", "keep alive, 60 if not given, 0 is none", (*clientFlags).setKeepAlive},
	{"-c --disable-clean-session", "psr", "", "keep the session after the end; needs -i", yesFlag(func(f *clientFlags) *bool { return &f.keepSession })},
	{"-x --session-expiry-interval", "psr", "SECONDS", "how long to keep it, 5.0; -1 is forever", (*clientFlags).setExpiry},
	{"-D --property", "psr", "COMMAND NAME VALUE", "property of 5.0; user-property takes a key and a value", nil},
	{"-t --topic", "psr", "TOPIC", "topic name to publish to; in sub a topic filter, may be repeated", (*clientFlags).addTopic},
	{"-e", "r", "TOPIC", "topic of the response", (*clientFlags).setResponse},
	{"-q --qos", "psr", "QOS", "0, 1 or 2", numberFlag("QoS", 0, 2, func(f *clientFlags, n int) { f.qos = mqtt.QoS(n) })},
	{"-m --message", "pr", "TEXT", "message", func(f *clientFlags, v string) error { return f.payload.set(fromText, v) }},
	{"-f --file", "pr", "PATH", "message: the contents of a file", func(f *clientFlags, v string) error { return f.payload.set(fromFile, v) }},
	{"-s --stdin-file", "pr", "", "message: all of standard input", func(f *clientFlags, _ string) error { return f.payload.set(fromStdin, "") }},
	{"-l --stdin-line", "p", "", "one message for each line of standard input", func(f *clientFlags, _ string) error { return f.payload.set(fromLines, "") }},
	{"-n --null-message", "pr", "", "an empty message", func(f *clientFlags, _ string) error { return f.payload.set(fromNothing, "") }},
	{"-r --retain", "p", "", "have the server retain it", yesFlag(func(f *clientFlags) *bool { return &f.retain })},
	{"--repeat", "p", "N", "publish it N times", numberFlag("repeat count", 1, 1<<31-1, func(f *clientFlags, n int) { f.repeat = n })},
	{"--repeat-delay", "p", "SECONDS", "pause between repetitions, may be a fraction", (*clientFlags).setRepeatDelay},
	{"-M", "p", "N", "how many messages of QoS 1 and 2 are under way at once", numberFlag("inflight maximum", 1, 65535, func(f *clientFlags, n int) { f.maxInflight = uint16(n) })},
	{"-C", "s", "N", "end after N messages", numberFlag("message count", 1, 1<<31-1, func(f *clientFlags, n int) { f.count = n })},
	{"-W", "sr", "SECONDS", "end after this time, with exit code 27", numberFlag("timeout", 1, 1<<31-1, func(f *clientFlags, n int) { f.timeout = time.Duration(n) * time.Second })},
	{"-E", "s", "", "end once subscribed", yesFlag(func(f *clientFlags) *bool { return &f.exitAfterSubscribe })},
	{"-T --filter-out", "s", "FILTER", "do not print what matches; may be repeated", (*clientFlags).addFilterOut},
	{"-U --unsubscribe", "s", "FILTER", "unsubscribe; may be repeated", (*clientFlags).addUnsubscribe},
	{"-R", "sr", "", "do not print retained messages", yesFlag(func(f *clientFlags) *bool { return &f.noRetain })},
	{"--retained-only", "s", "", "print retained messages only, end at the first other one", yesFlag(func(f *clientFlags) *bool { return &f.onlyRetained })},
	{"--remove-retained", "s", "", "have the server forget the retained messages that come", yesFlag(func(f *clientFlags) *bool { return &f.removeRetained })},
	{"--retain-as-published", "s", "", "show the retain flag as it was published, 5.0", yesFlag(func(f *clientFlags) *bool { return &f.retainAsPublished })},
	{"--retain-handling", "s", "WHEN", "send retained messages: always, new (subscription), never; 5.0", (*clientFlags).setRetainHandling},
	{"--random-filter", "s", "PERCENT", "print a random part of the messages", (*clientFlags).setChance},
	{"-v --verbose", "sr", "", "print the topic name before the payload", yesFlag(func(f *clientFlags) *bool { return &f.verbose })},
	{"-F", "sr", "FORMAT", "output format, see below", (*clientFlags).setFormat},
	{"-N", "sr", "", "no end of line after a message", yesFlag(func(f *clientFlags) *bool { return &f.noEOL })},
	{"--pretty", "sr", "", "JSON on many lines", yesFlag(func(f *clientFlags) *bool { return &f.pretty })},
	{"--will-topic", "psr", "TOPIC", "topic of the will", func(f *clientFlags, v string) error { f.will.topic, f.will.given = v, true; return nil }},
	{"--will-payload", "psr", "TEXT", "payload of the will", func(f *clientFlags, v string) error { f.will.payload, f.will.given = v, true; return nil }},
	{"--will-qos", "psr", "QOS", "QoS of the will", numberFlag("will QoS", 0, 2, func(f *clientFlags, n int) { f.will.qos, f.will.given = mqtt.QoS(n), true })},
	{"--will-retain", "psr", "", "have the will retained", func(f *clientFlags, _ string) error { f.will.retain, f.will.given = true, true; return nil }},
	{"--cafile", "psr", "PATH", "trust the certificates of this file; use TLS", textFlag(func(f *clientFlags) *string { return &f.tls.caFile })},
	{"--capath", "psr", "DIRECTORY", "trust the certificates in this directory; use TLS", textFlag(func(f *clientFlags) *string { return &f.tls.caPath })},
	{"--tls-use-os-certs", "psr", "", "trust what the system trusts; use TLS", yesFlag(func(f *clientFlags) *bool { return &f.tls.system })},
	{"--cert", "psr", "PATH", "certificate of the client", textFlag(func(f *clientFlags) *string { return &f.tls.cert })},
	{"--key", "psr", "PATH", "key of the client", textFlag(func(f *clientFlags) *string { return &f.tls.key })},
	{"--insecure", "psr", "", "do not check the name in the server's certificate", yesFlag(func(f *clientFlags) *bool { return &f.tls.insecure })},
	{"--tls-alpn", "psr", "PROTOCOL", "protocol to ask for", textFlag(func(f *clientFlags) *string { return &f.tls.alpn })},
	{"--tls-version", "psr", "VERSION", "lowest version: tlsv1.3, tlsv1.2, tlsv1.1", (*clientFlags).setTLSVersion},
	{"--ciphers", "psr", "LIST", "not available", refusedFlag(noCiphers)},
	{"--keyform", "psr", "FORM", "pem", (*clientFlags).setKeyForm},
	{"--tls-engine", "psr", "ENGINE", "not available", refusedFlag(noEngines)},
	{"--tls-engine-kpass-sha1", "psr", "HASH", "not available", refusedFlag(noEngines)},
	{"--psk", "psr", "KEY", "not available", refusedFlag(noPSK)},
	{"--psk-identity", "psr", "NAME", "not available", refusedFlag(noPSK)},
	{"-d --debug", "psr", "", "show packets on standard error", yesFlag(func(f *clientFlags) *bool { return &f.debug })},
	{"--quiet", "psr", "", "no words on standard error", yesFlag(func(f *clientFlags) *bool { return &f.quiet })},
	{"--help", "psr", "", "print this", yesFlag(func(f *clientFlags) *bool { return &f.help })},
	{"--version", "psr", "", "print the version", nil},
}
