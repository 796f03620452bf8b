module github.com/noctule/noctule/bench

go 1.26.8

replace github.com/noctule/noctule => ../

require (
	github.com/mochi-mqtt/server/v2 v2.7.9
	github.com/noctule/noctule v0.0.0
	golang.org/x/sys v0.50.0
)

require (
	github.com/gorilla/websocket v1.5.0 // indirect
	github.com/pires/go-proxyproto v0.15.0 // indirect
	github.com/rs/xid v1.4.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
