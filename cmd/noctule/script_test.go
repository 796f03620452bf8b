// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	programs := map[string]func(){}
	for _, name := range []string{"noctule", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "mosquitto_passwd"} {
		programs[name] = func() { os.Exit(run(os.Args)) }
	}
	testscript.Main(m, programs)
}

// The commands of the README and the manual, as scripts.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"PORT", "ADMIN"} {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				defer l.Close()
				_, port, err := net.SplitHostPort(l.Addr().String())
				if err != nil {
					return err
				}
				e.Setenv(name, port)
			}
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"listening": func(ts *testscript.TestScript, _ bool, args []string) {
				for range 400 {
					c, err := net.Dial("tcp", "127.0.0.1:"+args[0])
					if err == nil {
						c.Close()
						return
					}
					time.Sleep(25 * time.Millisecond)
				}
				ts.Fatalf("nobody listens on port %s", args[0])
			},
		},
	})
}
