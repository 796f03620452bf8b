// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// TestAcknowledgementsAreBehindTheDisk watches the system calls of the built program: before a PUBACK, PUBREC, or the SUBACK
// of a persistent session is written to its socket, what it promises was written to a file, and an fdatasync of that file
// that began afterwards has ended.
func TestAcknowledgementsAreBehindTheDisk(t *testing.T) {
	early, checked := watchAcknowledgements(t, "sync")
	if checked != acknowledged {
		t.Errorf("%d acknowledgements were seen, want %d", checked, acknowledged)
	}
	for _, e := range early {
		t.Error(e)
	}
}

// TestTheWatchSeesEarlyAcknowledgements: a class of durability that does not wait for the disk must be caught.
func TestTheWatchSeesEarlyAcknowledgements(t *testing.T) {
	early, checked := watchAcknowledgements(t, "interval")
	if len(early) == 0 || checked != acknowledged {
		t.Errorf("%d of %d acknowledgements are early", len(early), checked)
	}
}

// How much is published: each publisher has its range of packet identifiers, so that an identifier names a message.
const (
	publishers   = 4
	perPublisher = 100
	acknowledged = publishers*perPublisher + 1 // and a SUBACK
)

// token is the payload of a message, and subscribedTo the filter: what the disk is to have.
func token(id uint16) string { return fmt.Sprintf("<message %05d>", id) }

const subscribedTo = "watched/+/<subscription>"

var promises = regexp.MustCompile(`<message \d{5}>|watched/\+/<subscription>`)

// watchAcknowledgements publishes to a persistent session that is away, under strace, and returns the acknowledgements that
// came too early, and how many there were.
func watchAcknowledgements(t *testing.T, class string) (early []string, checked int) {
	trace, port := filepath.Join(t.TempDir(), "trace"), freePort(t)
	cmd := exec.Command(need(t, "strace"), "-f", "-qq", "-xx", "-s", "20000", "-o", trace,
		"-e", "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fdatasync,fsync", program, "run",
		"--listen", "127.0.0.1:"+port, "--admin", "off", "--data", t.TempDir(), "--durability", class)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var log lockedBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := sync.OnceFunc(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		cmd.Wait()
	})
	t.Cleanup(ended)
	publishAll(t, port)
	ended()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 {
		missing(t, "strace traces nothing here: "+log.String())
	}
	return earlyOnes(t, string(b))
}

// publishAll leaves a session behind and has messages acknowledged for it.
func publishAll(t *testing.T, port string) {
	connect := func(id string, clean bool) *wire.Client {
		var conn net.Conn
		var err error
		for range 400 { // under strace a start takes its time
			if conn, err = net.Dial("tcp", "127.0.0.1:"+port); err == nil {
				break
			}
			time.Sleep(25 * time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		c := wire.New(t, conn, mqtt.V311)
		c.Patience = 30 * time.Second
		c.Connect(mqtt.Connect{ClientID: []byte(id), CleanStart: clean})
		return c
	}
	away := connect("away", false)
	away.Subscribe(60_000, 2, subscribedTo)
	away.Conn.Close()
	var all sync.WaitGroup
	for i := range publishers {
		c := connect(fmt.Sprint("publisher", i), true)
		all.Go(func() {
			for n := range perPublisher {
				id := uint16(1000*(i+1) + n)
				c.Send(&mqtt.Publish{ID: id, QoS: mqtt.QoS(1 + n%2), Topic: []byte("watched/x/<subscription>"), Payload: []byte(token(id))})
				if n%8 == 7 || n == perPublisher-1 {
					for range n%8 + 1 {
						if _, err := c.Read(30 * time.Second); err != nil {
							t.Errorf("publisher %d, message %d: %v", i, n, err)
							return
						}
					}
				}
			}
		})
	}
	all.Wait()
}

// call is a system call of the trace; began and ended are lines.
type call struct {
	name         string
	file         string
	data         []byte
	began, ended int
}

var (
	callBegins  = regexp.MustCompile(`^(\d+) +(\w+)\((\d+)(.*)$`)
	callResumes = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>`)
	quoted      = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
)

// callsOf reads a trace, in the order in which calls began.
func callsOf(trace string) (calls []*call) {
	open := map[string]*call{}
	for i, line := range strings.Split(trace, "\n") {
		if m := callResumes.FindStringSubmatch(line); m != nil {
			if c := open[m[1]]; c != nil {
				c.ended = i
			}
			continue
		}
		m := callBegins.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		c := &call{name: m[2], file: m[3], began: i, ended: i}
		for _, q := range quoted.FindAllStringSubmatch(m[4], -1) {
			b, _ := hex.DecodeString(strings.ReplaceAll(q[1], `\x`, ""))
			c.data = append(c.data, b...)
		}
		if strings.HasSuffix(line, "<unfinished ...>") {
			c.ended = 1 << 40
			open[m[1]] = c
		}
		calls = append(calls, c)
	}
	return calls
}

// earlyOnes finds acknowledgements that were written to a socket before what they promise was on disk.
func earlyOnes(t *testing.T, trace string) (early []string, checked int) {
	calls := callsOf(trace)
	writes := map[string]*call{}
	for _, c := range calls {
		if strings.HasPrefix(c.name, "pwrite") {
			for _, what := range promises.FindAllString(string(c.data), -1) {
				writes[what] = c
			}
		}
	}
	safe := func(what string, by int) bool {
		w := writes[what]
		return w != nil && slices.ContainsFunc(calls, func(s *call) bool {
			return s.name == "fdatasync" && s.file == w.file && s.began > w.ended && s.ended < by
		})
	}
	for _, c := range calls {
		if strings.HasPrefix(c.name, "p") || len(c.data) < 4 {
			continue
		}
		for _, a := range acknowledgementsIn(c.data) {
			checked++
			if !safe(a, c.began) {
				early = append(early, fmt.Sprintf("line %d of the trace: %q is acknowledged and not on disk", c.began+1, a))
			}
		}
	}
	return early, checked
}

// acknowledgementsIn is what the packets in a write to a client promise to be on disk; of anything else it is nothing. A client
// of 3.1.1 that only publishes and subscribes gets CONNACK, PUBACK, PUBREC and SUBACK, all with two or three bytes.
func acknowledgementsIn(b []byte) (promised []string) {
	for ; len(b) > 0; b = b[2+int(b[1]):] {
		if len(b) < 4 || b[1] < 2 || b[1] > 3 || len(b) < 2+int(b[1]) {
			return nil
		}
		id := binary.BigEndian.Uint16(b[2:])
		switch b[0] {
		case 0x20:
		case 0x40, 0x50:
			promised = append(promised, token(id))
		case 0x90:
			promised = append(promised, subscribedTo)
		default:
			return nil
		}
	}
	return promised
}
