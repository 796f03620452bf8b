// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package interop runs real clients against the built program: mosquitto_pub and mosquitto_sub, paho for Python and for C, mqtt.js. Clients that
// are not installed are skipped, loudly; with INTEROP=require their lack is a failure. mqtt.js is looked for in the folder that
// MQTTJS names (where `npm install mqtt` was run).
package interop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var program string // the built program

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "noctule")
	build := exec.Command("go", "build", "-o", program, "../cmd/noctule")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// freePort finds a port that nobody listens on now.
func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// serve starts the program and gives the port on which it speaks everything.
func serve(t testing.TB, args ...string) (port string, cmd *exec.Cmd) {
	port = freePort(t)
	cmd = exec.Command(program, append([]string{"run", "--listen", "127.0.0.1:" + port, "--admin", "off",
		"--data", t.TempDir()}, args...)...)
	var log lockedBuffer
	cmd.Stderr, cmd.Stdout = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("the broker said:\n%s", log.String())
		}
	})
	for range 200 {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return port, cmd
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("the broker does not listen:\n%s", log.String())
	return "", nil
}

type lockedBuffer struct {
	sync.Mutex
	b bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) { l.Lock(); defer l.Unlock(); return l.b.Write(p) }
func (l *lockedBuffer) String() string              { l.Lock(); defer l.Unlock(); return l.b.String() }

// need finds a program, or skips.
func need(t testing.TB, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name+" is not installed")
	}
	return path
}

func missing(t testing.TB, what string) {
	if os.Getenv("INTEROP") == "require" {
		t.Fatal(what)
	}
	t.Skip("NOT TESTED: " + what)
}

// run runs a client to its end.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// follow starts a subscriber, and returns once it says that it has subscribed.
func follow(t testing.TB, name string, args ...string) (wait func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	cmd := exec.CommandContext(ctx, need(t, "stdbuf"), append([]string{"-oL", name}, append(args, "-d")...)...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	subscribed, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		once := sync.OnceFunc(func() { close(subscribed) })
		for {
			n, err := r.Read(buf)
			log.Write(buf[:n])
			if strings.Contains(log.String(), "received SUBACK") {
				once()
			}
			if err != nil {
				return
			}
		}
	}()
	select {
	case <-subscribed:
	case <-ctx.Done():
		t.Fatalf("no subscription:\n%s", log.String())
	}
	return func() string {
		t.Helper()
		defer cancel()
		err := cmd.Wait()
		w.Close()
		<-ended
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, log.String())
		}
		var data []string
		for line := range strings.Lines(log.String()) {
			if !strings.HasPrefix(line, "Client ") && !strings.HasPrefix(line, "Subscribed ") {
				data = append(data, strings.TrimSpace(line))
			}
		}
		return strings.Join(data, "\n")
	}
}

func TestMosquittoClients(t *testing.T) {
	pub, sub := need(t, "mosquitto_pub"), need(t, "mosquitto_sub")
	port, _ := serve(t)
	for _, v := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		t.Run(v, func(t *testing.T) {
			base := []string{"-h", "127.0.0.1", "-p", port, "-V", v}
			pub := func(args ...string) { run(t, pub, append(base, args...)...) }
			wait := follow(t, sub, append(base, "-t", v+"/#", "-v", "-q", "2", "-C", "3")...)
			for q := range 3 {
				pub("-t", v+"/x", "-m", fmt.Sprint("q", q), "-q", fmt.Sprint(q))
			}
			if got, want := wait(), v+"/x q0\n"+v+"/x q1\n"+v+"/x q2"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			pub("-t", "kept/"+v, "-m", "retained", "-r", "-q", "1")
			if got := run(t, sub, append(base, "-t", "kept/"+v, "-C", "1")...); got != "retained\n" {
				t.Errorf("retained: %q", got)
			}
			id := []string{"-i", "offline-" + v, "-c", "-q", "1", "-t", "off/" + v}
			if v == "mqttv5" {
				id = append(id, "-x", "600")
			}
			run(t, sub, append(append(base, id...), "-E")...)
			for i := range 5 {
				pub("-t", "off/"+v, "-m", fmt.Sprint(i), "-q", "1")
			}
			if got := run(t, sub, append(append(base, id...), "-C", "5")...); got != "0\n1\n2\n3\n4\n" {
				t.Errorf("missed while away: %q", got)
			}
			will := follow(t, sub, append(base, "-t", "will/"+v, "-C", "1")...)
			kill := exec.Command(sub, append(base, "-t", "nothing", "--will-topic", "will/"+v, "--will-payload", "gone")...)
			if err := kill.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond) // it has no sign of being connected
			kill.Process.Kill()
			kill.Wait()
			if got := will(); got != "gone" {
				t.Errorf("will: %q", got)
			}
		})
	}
}

func TestPahoPython(t *testing.T) {
	python := "/usr/bin/python3" // the distribution's, which has its packages
	if exec.Command(python, "-c", "import paho.mqtt.client").Run() != nil {
		missing(t, "paho for Python is not installed")
	}
	port, _ := serve(t)
	if got := run(t, python, "testdata/paho_client.py", port); !strings.HasSuffix(got, "all well\n") {
		t.Errorf("it said %q", got)
	}
}

// paho for C does not see a second packet in one WebSocket frame.
func TestPahoC(t *testing.T) {
	cc := need(t, "cc")
	client := filepath.Join(t.TempDir(), "paho_client")
	if out, err := exec.Command(cc, "-o", client, "testdata/paho_client.c", "-lpaho-mqtt3c").CombinedOutput(); err != nil {
		missing(t, "paho for C is not installed: "+string(out))
	}
	port, _ := serve(t)
	if got := run(t, client, port); got != "all well\n" {
		t.Errorf("it said %q", got)
	}
}

func TestMqttJS(t *testing.T) {
	node, dir := need(t, "node"), os.Getenv("MQTTJS")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "mqtt")); dir == "" || err != nil {
		missing(t, "mqtt.js is not installed (npm install mqtt, and MQTTJS=that folder)")
	}
	port, _ := serve(t)
	script, _ := filepath.Abs("testdata/mqttjs_client.cjs")
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, script, port)
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(dir, "node_modules"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "all well\n") {
		t.Errorf("%v: it said %q", err, out)
	}
}

// SIGTERM ends the program in order: 5.0 clients are told, and the exit code is 0.
func TestGracefulStop(t *testing.T) {
	sub := need(t, "mosquitto_sub")
	port, broker := serve(t)
	wait := exec.Command(need(t, "stdbuf"), "-oL", sub, "-h", "127.0.0.1", "-p", port, "-V", "mqttv5", "-t", "x", "-d")
	var log lockedBuffer
	wait.Stdout, wait.Stderr = &log, &log
	if err := wait.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { wait.Process.Kill(); wait.Wait() }()
	for range 200 {
		if strings.Contains(log.String(), "SUBACK") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	began := time.Now()
	broker.Process.Signal(syscall.SIGTERM)
	if err := broker.Wait(); err != nil {
		t.Errorf("the broker ended with %v", err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	for range 100 {
		if strings.Contains(log.String(), "DISCONNECT (139)") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the client was not told 0x8B (139):\n%s", log.String())
}
