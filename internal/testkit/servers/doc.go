// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package servers runs real servers for tests, those of Debian's packages: PostgreSQL, MariaDB, Redis and OpenLDAP. Each listens on loopback alone,
// keeps its files in the test's folder, and ends with the test. What is not installed is skipped, loudly; with
// INTEROP=require its lack is a failure.
package servers
