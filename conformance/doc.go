// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package conformance proves, statement by statement, that a server speaks MQTT 3.1, 3.1.1 and 5.0.
//
// statements.tsv lists the normative statements of the two standards by their identifiers, and a few of the rules in which MQTT 3.1
// differs (their identifiers, MQTT31-n, are our own). Each statement has a test, or a reason in the table why there is
// none; a test holds the table against the tests. The tests are named by version and statement:
//
//	go test ./conformance                                        everything, against a broker in memory
//	go test -run 'TestConformance/V5/MQTT-3.3' ./conformance     a chapter
//	go test ./conformance -addr host:1883 -ws host:8083          against any broker
//	go test ./conformance -run Statements -update                writes docs/conformance.md anew
//
// The tests are a client that sees every byte (internal/testkit/wire). Every packet that the server sends in any of them is
// also looked at by a second, independent reader (form_test.go). In memory each test has a broker and a clock of its own
// (testing/synctest), so that waiting for an hour takes no time and silence is certain. With -addr time is real, the
// statements about limits that only a configuration sets are skipped, and where the standard lets a server close without a
// word the reason code is not asked for.
package conformance
