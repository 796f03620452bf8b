// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
	"testing"
)

// mistakes are what people write, with the place and the words that must come back: option, problem and fix.
var mistakes = []struct {
	name, text, at string
	want           []string
}{
	{"misspelt option", "limits:\n  max_paket: 1MiB\n", "2:3", []string{"limits.max_paket", "unknown option", "did you mean max_packet?"}},
	{"misspelt section", "limit:\n  max_packet: 1MiB\n", "1:1", []string{"limit:", "unknown option", "did you mean limits?"}},
	{"dash for underscore", "limits:\n  max-packet: 1MiB\n", "2:3", []string{"did you mean max_packet?"}},
	{"option outside its section", "max_packet: 1MiB\n", "1:1", []string{"did you mean max_packet, in the section limits?"}},
	{"letters swapped", "plguins: []\n", "1:1", []string{"did you mean plugins?"}},
	{"nothing near", "flux_capacitor: 1\n", "1:1", []string{"unknown option", "listeners", "shutdown"}},
	{"misspelt in a list", "listeners:\n  - adress: :1883\n", "2:5", []string{"listeners[0].adress", "did you mean address?"}},
	{"misspelt deep down", "listeners:\n  - address: tls://:1\n    tls: {crt: a, key: b}\n", "3:11", []string{"listeners[0].tls.crt", "did you mean cert?"}},
	{"size without unit", "limits:\n  max_packet: 1048576\n", "2:15", []string{"limits.max_packet", "no unit", "1MiB"}},
	{"size of nonsense", "limits:\n  max_packet: big\n", "2:15", []string{"not a size", "1MiB"}},
	{"size too large", "limits:\n  max_packet: 1GiB\n", "2:15", []string{"1GiB is too large", "at most 268435460B"}},
	{"size too small", "limits:\n  max_packet: 1B\n", "2:15", []string{"too small", "at least 128B"}},
	{"duration without unit", "shutdown:\n  timeout: 10\n", "2:12", []string{"shutdown.timeout", "no unit", "10s"}},
	{"duration of nonsense", "shutdown:\n  timeout: soon\n", "2:12", []string{"not a duration", "10s"}},
	{"duration too long", "limits:\n  max_keep_alive: 30d\n", "2:19", []string{"30d is too large", "at most 18h12m15s"}},
	{"negative duration", "shutdown:\n  timeout: -1s\n", "2:12", []string{"too small", "at least 0"}},
	{"number of nonsense", "limits:\n  max_inflight: many\n", "2:17", []string{"not a whole number", "write a number"}},
	{"fraction", "limits:\n  max_inflight: 1.5\n", "2:17", []string{"not a whole number"}},
	{"number too large", "limits:\n  receive_maximum: 65536\n", "2:20", []string{"65536 is too large", "at most 65535"}},
	{"number too small", "limits:\n  receive_maximum: 0\n", "2:20", []string{"too small", "at least 1"}},
	{"qos three", "limits:\n  max_qos: 3\n", "2:12", []string{"too large", "at most 2"}},
	{"word misspelt", "log:\n  level: inof\n", "2:10", []string{"log.level", "did you mean info?", "debug, info, warn, error"}},
	{"word unknown", "auth:\n  anonymous: sometimes\n", "2:14", []string{"loopback, everywhere, nowhere"}},
	{"boolean for a word", "auth:\n  anonymous: true\n", "2:14", []string{"loopback, everywhere, nowhere"}},
	{"yes for true", "admin:\n  expose: yes\n", "2:11", []string{"neither true nor false", "true or false"}},
	{"number for text", "listeners:\n  - name: 1\n    address: localhost:1883\n", "2:11", []string{"1 is not text", "quotes"}},
	{"list for a value", "log:\n  level: [info]\n", "2:10", []string{"not a list", "write level: debug"}},
	{"section for a value", "log:\n  level:\n    x: y\n", "3:5", []string{"not a section", "write level: debug"}},
	{"value for a list", "plugins: auth.file\n", "1:10", []string{"a list of plug-ins is wanted", "- name: auth.file"}},
	{"value for a section", "log: debug\n", "1:6", []string{"a section is wanted", "level, format"}},
	{"value for listeners", "listeners: localhost:1883\n", "1:12", []string{"a list of sections is wanted"}},
	{"text for a listener", "listeners:\n  - localhost:1883\n", "2:5", []string{"a section is wanted", "address"}},
	{"no listener", "listeners: []\n", "1:12", []string{"nobody can connect", "remove the line"}},
	{"listener without address", "listeners:\n  - name: a\n", "2:5", []string{"has no address", "write address: localhost:1883"}},
	{"empty value", "log:\n  level:\n", "2:3", []string{"has no value", "write one"}},
	{"bare hash as a value", "data: #\n", "1:1", []string{"has no value", "write \"#\" in quotes"}},
	{"bare hash in a list", "plugins:\n  - name: acl.file\n    topics:\n      - #\n      - a/#\n", "4:8", []string{"plugins[0].topics[0]", "write \"#\" in quotes"}},
	{"bare hash of a plug-in", "plugins:\n  - name: bridge\n    filter: #\n", "3:5", []string{"plugins[0].filter", "write \"#\" in quotes"}},
	{"bare hash in brackets", "plugins:\n  - name: bridge\n    topics: [#, a/#]\n", "3:13", []string{"write \"#\" in quotes"}},
	{"bare hash in braces", "plugins:\n  - {name: bridge, filter: #}\n", "2:", []string{"write \"#\" in quotes"}},
	{"port alone", "listeners:\n  - address: \"1883\"\n", "2:14", []string{"no host", "127.0.0.1:1883", ":1883"}},
	{"host alone", "listeners:\n  - address: localhost\n", "2:14", []string{"no port", "write localhost:1883"}},
	{"IPv6 without brackets", "listeners:\n  - address: \"::1\"\n", "2:14", []string{"no port", "[::1]:1883"}},
	{"unknown scheme", "listeners:\n  - address: http://:80\n", "2:14", []string{"http://", "tcp://, tls://"}},
	{"MQTT scheme", "listeners:\n  - address: mqtts://:8883\n", "2:14", []string{"write tls://:8883"}},
	{"star for a host", "listeners:\n  - address: \"*:1883\"\n", "2:14", []string{"write :1883"}},
	{"path in an address", "listeners:\n  - address: ws://localhost:80/mqtt\n", "2:14", []string{"a path is no part", "websocket.paths"}},
	{"port out of range", "listeners:\n  - address: localhost:70000\n", "2:14", []string{"not a port", "65535"}},
	{"same address twice", "listeners:\n  - address: localhost:1883\n  - address: tcp://localhost:1883\n", "3:14", []string{"already", "another port"}},
	{"same name twice", "listeners:\n  - {name: a, address: \"localhost:1\"}\n  - {name: a, address: \"localhost:2\"}\n", "3:12", []string{"called \"a\" already"}},
	{"TLS without certificate", "listeners:\n  - address: tls://localhost:8883\n", "2:5", []string{"needs a certificate", "tls: {cert: server.crt, key: server.key}"}},
	{"certificate without key", "listeners:\n  - address: tls://localhost:8883\n    tls: {cert: a.crt}\n", "3:17", []string{"without its key", "write tls.key"}},
	{"shared port of a Unix socket", "listeners:\n  - address: unix:///run/x\n    reuse_port: true\n", "3:17", []string{"a Unix socket has no port", "remove reuse_port"}},
	{"certificate without TLS", "listeners:\n  - address: tcp://localhost:1\n    tls: {cert: a.crt, key: a.key}\n", "3:17", []string{"tcp:// has no TLS", "tls://localhost:1"}},
	{"client certificates without authority", "listeners:\n  - address: tls://localhost:1\n    tls: {cert: a, key: b, client_auth: required}\n", "3:41", []string{"write tls.client_ca"}},
	{"user names without certificates", "listeners:\n  - address: tls://localhost:1\n    tls: {cert: a, key: b, username_from: cn}\n", "3:43", []string{"tls.client_auth: required"}},
	{"proxy of all the world", "listeners:\n  - address: localhost:1\n    proxy: {trusted: [0.0.0.0/0]}\n", "3:22", []string{"trusts everybody"}},
	{"proxy by name", "listeners:\n  - address: localhost:1\n    proxy: {trusted: [lb.example]}\n", "3:23", []string{"not a range of addresses", "10.0.0.0/8"}},
	{"web path", "listeners:\n  - address: localhost:1\n    websocket: {paths: [mqtt]}\n", "3:25", []string{"not a path", "write /mqtt"}},
	{"origin without scheme", "listeners:\n  - address: localhost:1\n    websocket: {origins: [app.example]}\n", "3:27", []string{"not an origin", "https://"}},
	{"admin for everybody", "admin:\n  address: 0.0.0.0:18083\n", "2:12", []string{"no login", "127.0.0.1:18083", "admin.expose: true"}},
	{"admin as URL", "admin:\n  address: http://127.0.0.1:1/\n", "2:12", []string{"write 127.0.0.1:1"}},
	{"limits that contradict", "limits:\n  max_connect_packet: 2MiB\n", "2:23", []string{"larger than limits.max_packet"}},
	{"interval too short", "policy:\n  sys_interval: 1ms\n", "2:17", []string{"too short", "-1s for none"}},
	{"durability unknown", "store:\n  durability: fsync\n", "2:15", []string{"store.durability", "did you mean sync?"}},
	{"durability of topics as a map", "store:\n  durability_by_topic:\n    a/#: memory\n", "3:5", []string{"a list of sections is wanted", "with - before"}},
	{"durability of no topic", "store:\n  durability_by_topic:\n    - durability: memory\n", "3:7", []string{"has no filter", "telemetry/#"}},
	{"no durability of a topic", "store:\n  durability_by_topic:\n    - filter: a\n", "3:7", []string{"has no durability", "durability: memory"}},
	{"durability of no filter", "store:\n  durability_by_topic:\n    - {filter: a#, durability: memory}\n", "3:16", []string{"not a topic filter"}},
	{"durability of a share", "store:\n  durability_by_topic:\n    - {filter: $share/g/a, durability: memory}\n", "3:16", []string{"shared subscription", "write a"}},
	{"durability above memory", "store:\n  durability: memory\n  durability_by_topic:\n    - {filter: a, durability: sync}\n", "4:31", []string{"nothing is written", "durability: interval"}},
	{"write buffer too small", "store:\n  write_buffer: 64KiB\n", "2:17", []string{"too small", "at least 1MiB"}},
	{"damage unknown", "store:\n  on_damage: ignore\n", "2:14", []string{"set-aside, refuse"}},
	{"plug-in without name", "plugins:\n  - path: x\n", "2:5", []string{"has no name", "name: auth.file"}},
	{"plug-in as text", "plugins:\n  - auth.file\n", "2:5", []string{"a section is wanted", "- name: auth.file"}},
	{"given twice", "data: a\ndata: b\n", "2:1", []string{"given twice", "remove one"}},
	{"tab", "log:\n\tlevel: info\n", "2:1", []string{"tab", "spaces"}},
	{"quote not closed", "data: \"x\n", "1:7", []string{"quotes"}},
	{"colon in a value", "data: a: b\n", "1:7", []string{"in quotes"}},
	{"bracket not closed", "listeners: [\n", "1:12", []string{"brackets"}},
	{"a list as configuration", "- a\n", "1:1", []string{"option: value"}},
	{"text as configuration", "hello\n", "1:1", []string{"option: value"}},
	{"two documents", "data: a\n---\ndata: b\n", "3:", []string{"second document", "---"}},
	{"alias", "data: &x a\nlog: *x\n", "1:7", []string{"anchors and aliases"}},
	{"tag", "data: !secret a\n", "1:7", []string{"tags"}},
	{"unknown variable", "data: ${env:NO_SUCH}\n", "1:7", []string{"no variable NO_SUCH"}},
	{"unknown file", "data: ${file:/no/such}\n", "1:7", []string{"/no/such"}},
	{"unknown reference", "data: ${vault:x}\n", "1:7", []string{"${env:NAME}", "${file:PATH}"}},
	{"reference not closed", "data: \"${env:X\"\n", "1:7", []string{"without }"}},
}

func TestMistakesNamePlaceAndFix(t *testing.T) {
	for _, m := range mistakes {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			_, err := Load(Input{File: "noctule.yaml", Text: []byte(m.text)})
			if err == nil {
				t.Fatalf("nothing found in\n%s", m.text)
			}
			first := err.(Mistakes)[0]
			line := first.Error()
			if !strings.HasPrefix(line, "noctule.yaml:"+m.at) {
				t.Errorf("got %s, want it at %s", line, m.at)
			}
			for _, w := range m.want {
				if !strings.Contains(line, w) {
					t.Errorf("got %s, want it to say %s", line, w)
				}
			}
			if first.Fix == "" {
				t.Errorf("got %s, want a fix", line)
			}
			if text := first.Text(); !strings.Contains(text, fmt.Sprintf("%5d | ", first.Line)) || !strings.HasSuffix(text, "^") {
				t.Errorf("no snippet:\n%s", text)
			}
		})
	}
}

func TestMistakeShowsItsLine(t *testing.T) {
	_, err := Load(Input{File: "n.yaml", Text: []byte("log:\n  level: info\nlimits:\n  max_paket: 1MiB # note\n")})
	want := "n.yaml:4:3: limits.max_paket: unknown option; did you mean max_packet?\n" +
		"    4 |   max_paket: 1MiB # note\n" +
		"          ^"
	if got := err.(Mistakes).Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAllMistakesAreReported(t *testing.T) {
	_, err := Load(Input{File: "n", Text: []byte("a: 1\nlimits: {max_qos: 7, b: 2}\nlisteners: [{address: x}, {address: \"localhost:1\", c: 3}]\n")})
	if got := len(err.(Mistakes)); got != 5 {
		t.Errorf("got %d mistakes, want 5:\n%v", got, err)
	}
}

func TestMistakesHoldNoControlCharacters(t *testing.T) {
	for _, text := range []string{"\"a\\x1b[31mb\": 1\n", "data: \x1b[31m\nx: 1\n", "log: {level: \"\\x1b[2Jx\"}\n", "listeners: [{address: \"\\x07x\"}]\n"} {
		_, err := Load(Input{File: "n", Text: []byte(text)})
		if err == nil {
			t.Errorf("nothing found in %q", text)
			continue
		}
		if s := err.(Mistakes).Text(); strings.ContainsAny(s, "\x1b\x07") {
			t.Errorf("%q", s)
		}
	}
}
