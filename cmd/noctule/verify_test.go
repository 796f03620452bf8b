// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/noctule/noctule/verify"
)

// runVerify runs the verb and gives what it printed and its exit code.
func runVerify(t *testing.T, args ...string) (out, words string, code int) {
	t.Helper()
	cmd := exec.Command("noctule", append([]string{"verify"}, args...)...)
	var o, w bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &w
	err := cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return o.String(), w.String(), code
}

// freeAddress is an address of this host on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestVerifyRefuses(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
		code int
	}{
		{nil, "no command", 2},
		{[]string{"--protocol", "3.1", "--", "x"}, "--protocol has to be", 2},
		{[]string{"--kill", "HUP", "--", "x"}, "signal", 2},
		{[]string{"--rounds", "0", "--", "x"}, "one round", 2},
		{[]string{"--no-such-flag"}, "no-such-flag", 2},
		{[]string{"--url", "mqtt://" + freeAddress(t), "-q", "--", "/nowhere/broker"}, "/nowhere/broker", 3},
		{[]string{"--keep", "/nowhere/ledger", "--", "x"}, "/nowhere/ledger", 3},
	} {
		out, words, code := runVerify(t, test.args...)
		if code != test.code || out != "" || !strings.Contains(words, test.want) {
			t.Errorf("%q: exit code %d, %q, %q; want %d, %q", test.args, code, out, words, test.code, test.want)
		}
	}
}

// A broker that begins with an empty data directory each time keeps nothing.
func TestVerifyCatchesLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no shell")
	}
	address := freeAddress(t)
	out, words, code := runVerify(t, "--url", "mqtt://"+address, "--rounds", "1", "--rate", "200", "--quiet-time", "1s", "--json", "--seed", "5", "--",
		"sh", "-c", `exec noctule run --data "$(mktemp -d "$1"/XXXXXX)" --listen "$2" --admin off`, "sh", t.TempDir(), address)
	var rep verify.Report
	if err := json.Unmarshal([]byte(out), &rep); err != nil || code != 1 {
		t.Fatalf("exit code %d, %v:\n%s%s", code, err, out, words)
	}
	if rep.Kept || rep.Seed != 5 || rep.Rounds != 1 || len(rep.Results) == 0 || !strings.Contains(words, "seed 5\nround ") {
		t.Errorf("report %+v, words %s", rep, words)
	}
}

// The durable store keeps everything that it acknowledged.
func TestVerifyPassesOurStore(t *testing.T) {
	if testing.Short() {
		t.Skip("takes twenty seconds")
	}
	t.Parallel()
	address, dir := freeAddress(t), t.TempDir()
	out, words, code := runVerify(t, "--url", "mqtt://"+address, "--rounds", "4", "--rate", "300", "-q", "--broker-log", filepath.Join(dir, "broker.log"), "--",
		"noctule", "run", "--data", filepath.Join(dir, "data"), "--listen", address, "--admin", "off")
	if code != 0 || !strings.Contains(out, "verdict: kept") || words != "" {
		t.Errorf("exit code %d:\n%s%s", code, out, words)
	}
}
