// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import _ "github.com/noctule/noctule/plugins/standard" // the bundled plug-ins
