// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/noctule/noctule/mqtt"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// A transcript is a file of commands ("> deliver qos=1 topic=a"), each followed by what it causes. It reads like the
// conversation that it tests.
func TestTranscripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *update {
				if err := os.WriteFile(name, got, 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(got, want) {
				t.Errorf("the transcript has changed (-update writes it anew):\n%s", got)
			}
		})
	}
}

// play carries out the commands of a transcript and writes it anew with their effects.
func play(t *testing.T, script string) []byte {
	var b bytes.Buffer
	p := player{t: t, s: New[int](Limits{Version: mqtt.V5, ReceiveMaximum: 10, OwnMaximum: 10})}
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		command, ok := strings.CutPrefix(line, "> ")
		switch {
		case ok:
			fmt.Fprintln(&b, line)
			p.w.b = nil
			words := strings.Fields(command)
			if effect := p.do(words[0], words[1:]); effect != "" {
				fmt.Fprintln(&b, "  "+effect)
			}
			p.dump(&b)
		case line == "" || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&b, line)
		}
	}
	return b.Bytes()
}

func always() bool { return true }

type player struct {
	t   *testing.T
	s   *Session[int]
	now int64
	w   out
}

func (p *player) do(command string, words []string) string {
	arg := map[string]string{}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		arg[k] = v
	}
	num := func(k string) int {
		n, _ := strconv.Atoi(arg[k])
		return n
	}
	switch command {
	case "new":
		v := mqtt.V5
		if arg["version"] == "3.1.1" {
			v = mqtt.V311
		}
		p.s = New[int](Limits{Version: v, ReceiveMaximum: uint16(num("receive")), OwnMaximum: uint16(num("own")),
			MaxPacket: uint32(num("packet")), AliasesOut: uint16(num("aliases")), AliasesIn: uint16(num("aliases"))})
	case "wait":
		p.now += int64(num("seconds")) * 1e9
	case "deliver":
		return p.deliver(arg, mqtt.QoS(num("qos")), num("expiry"))
	case "ack":
		types := map[string]mqtt.PacketType{"puback": mqtt.PUBACK, "pubrec": mqtt.PUBREC, "pubcomp": mqtt.PUBCOMP}
		code, _ := strconv.ParseUint(arg["code"], 0, 8)
		result, e := p.s.Out.Acknowledge(types[arg["type"]], uint16(num("id")), mqtt.ReasonCode(code))
		return [...]string{"ignored", "done", "refused", "to release"}[result] + fmt.Sprintf(", %d free, id %d", p.s.Out.Free(), e.ID)
	case "release":
		p.s.Release(uint16(num("id")), &p.w)
	case "reconnect":
		if arg["receive"] != "" {
			p.s.limits.ReceiveMaximum = uint16(num("receive"))
		}
		return p.reconnect()
	case "more":
		p.s.ResendMore(p.now, &p.w, always, func(Inflight[int]) {})
	case "begin":
		a, err := p.s.In.Begin(mqtt.QoS(num("qos")), uint16(num("id")))
		if err != nil {
			return err.Error()
		}
		return [...]string{"take", "repeat", "wait"}[a]
	case "accepted":
		code, _ := strconv.ParseUint(arg["code"], 0, 8)
		p.s.In.Accepted(mqtt.QoS(num("qos")), uint16(num("id")), mqtt.ReasonCode(code), p.s.limits.Version, &p.w)
	case "pubrel":
		return fmt.Sprintf("known %v", p.s.In.Release(uint16(num("id"))))
	default:
		p.t.Fatalf("unknown command %q", command)
	}
	return ""
}

func (p *player) deliver(arg map[string]string, q mqtt.QoS, expiry int) string {
	pub := mqtt.Publish{Topic: []byte(arg["topic"]), Payload: []byte(arg["payload"]), QoS: q}
	if expiry > 0 {
		pub.Properties = mqtt.AppendPropUint32(nil, mqtt.PropMessageExpiryInterval, uint32(expiry))
	}
	d := Delivery[int]{Message: pub.Message(p.now), QoS: q}
	if arg["since"] != "" {
		since, _ := strconv.Atoi(arg["since"])
		d.Message.Stamp(p.now - int64(since)*1e9)
	}
	results := [...]string{"sent", "too large", "too old"}
	if q == 0 {
		return results[p.s.SendQoS0(&d, p.now, &p.w)]
	}
	if p.s.Out.Free() == 0 {
		return "window is full"
	}
	return results[p.s.Open(p.s.Out.Add(d), p.now, &p.w)]
}

// reconnect carries the window over to a new connection.
func (p *player) reconnect() string {
	var window []Inflight[int]
	for e := range p.s.Out.Window {
		window = append(window, *e)
	}
	next, held := p.s.Out.NextID(), p.s.In.Held()
	p.s = New[int](p.s.limits)
	p.s.Out.Resume(window, next)
	p.s.In.Resume(held)
	var lost []string
	p.s.Resend(p.now, &p.w, always, func(e Inflight[int]) { lost = append(lost, fmt.Sprintf("dropped %d", e.ID)) })
	return strings.Join(lost, ", ")
}

// dump prints the packets that were written.
func (p *player) dump(b *bytes.Buffer) {
	for rest := p.w.b; len(rest) > 0; {
		h, n, err := mqtt.DecodeHeader(rest, p.s.limits.Version)
		if err != nil || n == 0 {
			p.t.Fatalf("bad bytes written: % x: %v", rest, err)
		}
		body := rest[n : n+h.Remaining]
		rest = rest[n+h.Remaining:]
		var s fmt.Stringer
		if h.Type == mqtt.PUBLISH {
			var pub mqtt.Publish
			if err := pub.Decode(h, body, p.s.limits.Version); err != nil {
				p.t.Fatal(err)
			}
			s = &pub
		} else {
			var a mqtt.Ack
			if err := a.Decode(h, body, p.s.limits.Version); err != nil {
				p.t.Fatal(err)
			}
			s = &a
		}
		fmt.Fprintln(b, "  <- "+s.String())
	}
}
