// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openMemory(_ testing.TB, o store.Options) store.Store { return store.NewMemory(o) }

func TestMemory(t *testing.T) { storetest.Run(t, openMemory) }
