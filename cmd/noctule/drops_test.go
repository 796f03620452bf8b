// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/broker/journal"
)

func TestDropsAreListed(t *testing.T) {
	drops := []journal.Drop{
		{Seq: 1, Time: time.Unix(0, 0).UTC(), Cause: "queue_full", Client: "c,1", Topic: "a/\x1b[2J", Size: 7, Publisher: "p"},
		{Seq: 2, Time: time.Unix(1, 0).UTC(), Cause: "filter_oldest", Readers: 3, Topic: "b", Filter: "#"},
		{Seq: 3, Time: time.Unix(2, 0).UTC(), Cause: "queue_full", Count: 12},
	}
	for form, want := range map[string]string{
		"table": "TIME                  CAUSE          CLIENT  TOPIC          FILTER  SIZE  PUBLISHER  COUNT\n" +
			"1970-01-01T00:00:00Z  queue_full     c,1     \"a/\\x1b[2J\"          7     p          1\n" +
			"1970-01-01T00:00:01Z  filter_oldest  (3)     b              #       0                1\n" +
			"1970-01-01T00:00:02Z  queue_full                                    0                12\n",
		"csv": "time,cause,client,topic,filter,size,publisher,count\n" +
			"1970-01-01T00:00:00Z,queue_full,\"c,1\",a/\x1b[2J,,7,p,1\n" +
			"1970-01-01T00:00:01Z,filter_oldest,(3),b,#,0,,1\n1970-01-01T00:00:02Z,queue_full,,,,0,,12\n",
		"json": `{"seq":1,"time":"1970-01-01T00:00:00Z","cause":"queue_full","client":"c,1","topic":"a/\u001b[2J","size":7,"publisher":"p"}` + "\n" +
			`{"seq":2,"time":"1970-01-01T00:00:01Z","cause":"filter_oldest","readers":3,"topic":"b","filter":"#"}` + "\n" +
			`{"seq":3,"time":"1970-01-01T00:00:02Z","cause":"queue_full","count":12}` + "\n",
	} {
		var b bytes.Buffer
		l, err := newDropLister(form, &b)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.list(drops[:1]), l.list(drops[1:])); err != nil {
			t.Fatal(err)
		}
		if form == "table" { // each part is a table of its own
			var lines []string
			for line := range strings.Lines(b.String() + want) {
				lines = append(lines, strings.Join(strings.Fields(line), " "))
			}
			if n := len(lines) / 2; strings.Join(lines[:n], "\n") != strings.Join(lines[n:], "\n") {
				t.Errorf("got\n%s\nwant\n%s", b.String(), want)
			}
			continue
		}
		if b.String() != want {
			t.Errorf("%s: got\n%s\nwant\n%s", form, b.String(), want)
		}
	}
}

// A running broker drops what a client has no room for, and tells so by the verb, by its page, and in its file.
func TestDropsOfARunningBroker(t *testing.T) {
	dir := t.TempDir()
	p := runBroker(t, "run", "--data", dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	address := p.said(`clients +mqtt://(\S+)`)
	admin := p.said(`admin +http://([^/]+)/`)
	c := dialBroker(t, address)
	// A subscription with QoS 1, from a client that takes packets of 60 bytes at most.
	small, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	small.SetDeadline(time.Now().Add(patience))
	send := func(c net.Conn, packet string, answer byte) {
		t.Helper()
		if _, err := c.Write([]byte(packet)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2)
		for b[0] != answer {
			if _, err := c.Read(b); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, b[1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(small, "\x10\x14\x00\x04MQTT\x05\x02\x00\x00\x05\x27\x00\x00\x00\x78\x00\x02s1", 0x20)
	send(small, "\x82\x07\x00\x01\x00\x00\x01a\x01", 0x90)
	send(c, "\x32\x86\x01\x00\x01a\x00\x01\x00"+strings.Repeat("x", 128), 0x40)

	var out bytes.Buffer
	for range 400 {
		out.Reset()
		cmd := root()
		cmd.SetArgs([]string{"drops", "--admin", admin, "--client", "s1", "--topic", "#", "--since", "1h", "-o", "csv"})
		cmd.SetOut(&out)
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "receiver_too_small,s1,a,,") {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	if !strings.Contains(out.String(), "receiver_too_small,s1,a,,") {
		t.Errorf("got %s", out.String())
	}
	for path, want := range map[string]int{"/api/v1/drops?limit=1": 200, "/api/v1/drops?limit=0": 400, "/api/v1/alarms": 200} {
		resp, err := http.Get("http://" + admin + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", path, resp.StatusCode, want)
		}
	}
	p.signal(os.Interrupt)
	if code := p.ends(); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	got, err := journal.Read(dir, journal.Query{})
	if err != nil || len(got) != 1 || got[0].Cause != "receiver_too_small" {
		t.Errorf("got %+v, %v in the file", got, err)
	}
}
