// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package standard links all plug-ins that come with the broker, each registered by its import. Who embeds the broker
// and wants fewer imports those alone.
package standard

import (
	_ "github.com/noctule/noctule/plugins/acl/file"
	_ "github.com/noctule/noctule/plugins/acl/http"
	_ "github.com/noctule/noctule/plugins/acl/identity"
	_ "github.com/noctule/noctule/plugins/acl/redis"
	_ "github.com/noctule/noctule/plugins/acl/sql"
	_ "github.com/noctule/noctule/plugins/auth/file"
	_ "github.com/noctule/noctule/plugins/auth/http"
	_ "github.com/noctule/noctule/plugins/auth/jwt"
	_ "github.com/noctule/noctule/plugins/auth/ldap"
	_ "github.com/noctule/noctule/plugins/auth/redis"
	_ "github.com/noctule/noctule/plugins/auth/scram"
	_ "github.com/noctule/noctule/plugins/auth/sql"
)
