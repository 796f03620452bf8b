// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package redis

import (
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/noctule/noctule/internal/testkit/servers"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/password"
)

func TestRedis(t *testing.T) {
	s, address, pw := servers.Redis(t)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, Password: pw, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	do := func(args ...string) {
		t.Helper()
		if err := c.Do(t.Context(), c.B().Arbitrary(args...).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	cheap := func(pw string) string { return password.NewArgon2id(8, 1, 1, []byte(pw)).String() }
	do("HSET", "mqtt:user:ann", "password_hash", cheap("wonder"), "groups", "ops,dev", "site", "north")
	do("HSET", "mqtt:user:root", "password_hash", cheap("toor"), "superuser", "1")
	do("HSET", "mqtt:user:a:b", "password_hash", cheap("x"))
	do("SET", "mqtt:user:text", "no hash")
	do("HSET", "mqtt:user:empty", "site", "north")
	o := plain(address)
	o.Password, o.Fields = pw, append(o.Fields, "site")
	a := started(t, o)
	if id := want(t, a, login("ann", "wonder"), plugin.Allow); !reflect.DeepEqual(id.Groups, []string{"ops", "dev"}) || id.Grant.Claims["site"] != "north" {
		t.Errorf("%+v, %+v", id, id.Grant)
	}
	if id := want(t, a, login("root", "toor"), plugin.Allow); id.Groups[0] != "superuser" {
		t.Errorf("%+v", id)
	}
	want(t, a, login("ann", "wonde"), plugin.Deny)
	want(t, a, login("bob", "wonder"), plugin.Deny)
	want(t, a, login("empty", ""), plugin.Deny)
	want(t, a, login("*", "wonder"), plugin.Deny)
	want(t, a, login("a:b", "x"), plugin.Deny)
	want(t, a, login("ann\r\nHSET x y z", "x"), plugin.Deny)
	if d, _, err := a.Authenticate(t.Context(), login("text", "x")); err == nil || d.Verdict == plugin.Allow || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("%v, %v", d, err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { want(t, a, login("ann", "wonder"), plugin.Allow) })
	}
	all.Wait()
	o.AllowColons = true
	want(t, started(t, o), login("a:b", "x"), plugin.Allow)
	o.Password = "wrong"
	if d, _, err := started(t, o).Authenticate(t.Context(), login("ann", "wonder")); err == nil || d.Verdict == plugin.Allow || strings.Contains(err.Error(), "wonder") {
		t.Errorf("%v, %v", d, err)
	}
	// A server that does not answer, and one that comes back.
	s.Freeze(true)
	began := time.Now()
	if d, _, err := a.Authenticate(t.Context(), login("ann", "wonder")); err == nil || d.Verdict == plugin.Allow || time.Since(began) > 5*time.Second {
		t.Errorf("frozen: %v, %v after %v", d, err, time.Since(began))
	}
	s.Freeze(false)
	for i := 0; ; i++ {
		d, _, err := a.Authenticate(t.Context(), login("ann", "wonder"))
		if err == nil && d.Verdict == plugin.Allow {
			break
		}
		if i == 100 {
			t.Fatalf("thawed: %v, %v", d, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.Stop()
	if d, _, err := a.Authenticate(t.Context(), login("ann", "wonder")); err == nil || d.Verdict == plugin.Allow {
		t.Errorf("stopped: %v, %v", d, err)
	}
}
