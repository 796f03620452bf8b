// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/internal/loadtest"
	"github.com/noctule/noctule/mqtt"
)

// parseBench gives the options that a command line makes.
func parseBench(t *testing.T, m loadtest.Mode, args ...string) (*benchFlags, error) {
	t.Helper()
	cmd := benchMode(m, "", "")
	f := &benchFlags{Options: loadtest.Defaults(m)}
	cmd.ResetFlags()
	noShortHelp(cmd)
	f.addConnection(cmd)
	f.addLoad(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		return nil, err
	}
	return f, f.complete(cmd)
}

func TestBenchTakesTheFlagsOfOtherPrograms(t *testing.T) {
	f, err := parseBench(t, loadtest.Pub, strings.Fields(
		"-h broker -p 1884 -c 10 -i 5 -t a/%i -q 1 -s 100 -I 20 -L 1000 -F 7 -k 30 -C false -u me -P secret -V 4 --prefix x- -n 3 --time 5s")...)
	if err != nil {
		t.Fatal(err)
	}
	if f.Server.String() != "mqtt://broker:1884" || f.Count != 10 || f.ConnectInterval != 5*time.Millisecond || f.Topic != "a/%i" || f.QoS != 1 ||
		f.Size != 100 || f.Interval != 20*time.Millisecond || f.Limit != 1000 || f.Window != 7 || f.KeepAlive != 30*time.Second || f.Clean ||
		f.Username != "me" || string(f.Password) != "secret" || f.Version != mqtt.V311 || f.Prefix != "x-" || f.First != 3 || f.Time != 5*time.Second {
		t.Errorf("%+v", f.Options)
	}
	f, err = parseBench(t, loadtest.Pub, "-t", "a", "-m", "hello", "-R", "200", "-r", "1000", "--subscribers", "4")
	if err != nil || string(f.Message) != "hello" || f.ConnectInterval != 5*time.Millisecond || f.Rate != 1000 || f.Subscribers != 4 || f.Count != 200 ||
		f.Interval != time.Second || !f.Clean || f.Version != mqtt.V5 || f.Password != nil {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestBenchFindsTheServer(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "mqtt://127.0.0.1:1883"},
		{"-p 8883", "mqtts://127.0.0.1:8883"},
		{"-S", "mqtts://127.0.0.1:8883"},
		{"--insecure", "mqtts://127.0.0.1:8883"},
		{"--ws -h ::1", "ws://[::1]:80/mqtt"},
		{"--ws -S -p 8084", "wss://127.0.0.1:8084/mqtt"},
		{"--url ssl://b", "mqtts://b:8883"},
		{"--url ws://b:8083/path", "ws://b:8083/path"},
		{"--url mqtt://u:p@b", "mqtt://b:1883"},
	} {
		f, err := parseBench(t, loadtest.Conn, strings.Fields(c.args)...)
		if err != nil || f.Server.String() != c.want {
			t.Errorf("%s: %v, %v, want %s", c.args, f.Server, err, c.want)
		}
	}
	f, err := parseBench(t, loadtest.Conn, "--url", "mqtt://u:p@b")
	if err != nil || f.Username != "u" || string(f.Password) != "p" {
		t.Errorf("user %q, password %q, %v", f.Username, f.Password, err)
	}
}

func TestBenchRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"bench":                      "conn, pub and sub",
		"bench fly":                  "fly",
		"bench pub":                  "no topic",
		"bench pub -t a/#":           "topic name",
		"bench sub -t a/#/b":         "#",
		"bench pub -t a -q 3":        "QoS 3",
		"bench pub -t a -V 6":        "version",
		"bench pub -t a -C maybe":    "-C",
		"bench pub -t a -o yaml":     "-o",
		"bench conn -c 0":            "clients",
		"bench conn --time 0s":       "ends",
		"bench conn -p 70000":        "port",
		"bench conn --url http://h":  "mqtt://HOST",
		"bench conn --engine warp":   "--engine",
		"bench conn --cert x.pem":    "together",
		"bench conn -t a":            "-t",
		"bench conn --cafile /no/ca": "/no/ca",
	} {
		out, words, code := runBench(t, strings.Fields(args)...)
		if code != exitUsage || out != "" || !strings.Contains(words, want) {
			t.Errorf("%s: code %d, %q, %q; want %q", args, code, out, words, want)
		}
	}
}

// runBench runs the program and gives what it printed and its exit code.
func runBench(t *testing.T, args ...string) (out, words string, code int) {
	t.Helper()
	return endBench(t, exec.Command("noctule", args...), nil)
}

// endBench runs cmd, with something done meanwhile.
func endBench(t *testing.T, cmd *exec.Cmd, meanwhile func()) (out, words string, code int) {
	t.Helper()
	var o, w bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile()
	}
	err := cmd.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return o.String(), w.String(), code
}

func TestBenchCannotConnect(t *testing.T) {
	out, words, code := runBench(t, "bench", "conn", "--url", "mqtt://"+freeAddress(t), "-c", "3")
	if code != exitBenchUnconnected || !strings.Contains(out, "3 times: connect: connection refused") || !strings.Contains(words, "3 of 3 clients could not connect") {
		t.Errorf("code %d, %q, %q", code, out, words)
	}
}

// benchedBroker runs a broker at addr until the end of the test, and returns when it listens.
func benchedBroker(t *testing.T, addr string, args ...string) {
	t.Helper()
	broker := exec.Command("noctule", append([]string{"run", "--admin", "off", "--data", t.TempDir()}, args...)...)
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		broker.Process.Signal(os.Interrupt)
		broker.Wait()
	})
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// writePair writes a certificate for 127.0.0.1 and its key into files.
func writePair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: public}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestBenchOverTLS(t *testing.T) {
	addr := freeAddress(t)
	cert, key := writePair(t)
	config := filepath.Join(t.TempDir(), "noctule.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "listeners:\n  - address: %q\n    tls: {cert: %q, key: %q, client_ca: %q, client_auth: required}\n",
		addr, cert, key, cert), 0o600); err != nil {
		t.Fatal(err)
	}
	benchedBroker(t, addr, "--config", config)
	_, port, _ := net.SplitHostPort(addr)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"pub --url mqtts://" + addr + " --cafile CERT --cert CERT --key KEY -t a/%i -c 5 --subscribers 5 -I 10 -q 1 --time 300ms -i 0 --quiet", 0, ", by epoll"},
		{"pub --url wss://" + addr + " --cafile CERT --cert CERT --key KEY -t a/%i -c 5 --subscribers 5 -I 10 -q 1 --time 300ms -i 0 --quiet", 0, ", by epoll"},
		{"conn --host localhost --port " + port + " --cafile CERT --cert CERT --key KEY -c 2 -i 0 --time 50ms", exitBenchUnconnected, "x509"},
		{"conn --host localhost --port " + port + " --cafile CERT --cert CERT --key KEY --insecure -c 2 -i 0 --time 50ms", 0, "2 of 2"},
		{"conn --url mqtts://" + addr + " --cert CERT --key KEY -c 2 -i 0 --time 50ms", exitBenchUnconnected, "unknown authority"},
		{"conn --url mqtts://" + addr + " --cert CERT --key KEY --insecure -c 2 -i 0 --time 50ms", exitBenchUnconnected, "unknown authority"},
		{"conn --url mqtts://" + addr + " --cafile CERT -c 2 -i 0 --time 500ms", exitBenchUnconnected, "tls:"}, // no certificate
	} {
		args := strings.NewReplacer("CERT", cert, "KEY", key).Replace("bench " + c.args)
		if out, words, code := runBench(t, strings.Fields(args)...); code != c.code || !strings.Contains(out+words, c.want) {
			t.Errorf("%s: code %d, %q, %q; want %q", c.args, code, out, words, c.want)
		}
	}
}

func TestBenchEndsInOrderWhenInterrupted(t *testing.T) {
	addr := freeAddress(t)
	benchedBroker(t, addr, "--listen", addr)
	bench := exec.Command("noctule", "bench", "pub", "--url", "mqtt://"+addr, "-t", "a/%i", "-c", "5", "--subscribers", "5", "-I", "10", "-q", "1",
		"-i", "0", "--time", "60s", "-o", "json")
	out, words, code := endBench(t, bench, func() {
		time.Sleep(1500 * time.Millisecond)
		bench.Process.Signal(os.Interrupt)
	})
	var rep loadtest.Report
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatal(err, out, words)
	}
	if code != 0 || !rep.Interrupted || !rep.Kept || rep.Sent == 0 || rep.Received != rep.Sent || rep.Lost != 0 || rep.Deliveries == nil {
		t.Errorf("code %d, %+v", code, rep)
	}
	if !strings.Contains(words, "10 of 10 connected") || strings.Contains(words, "\r") {
		t.Errorf("progress %q", words)
	}
}
