package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A proxy is a program and how it is configured.
type proxy interface {
	// command writes a configuration into dir. An empty certificate means
	// HTTP/1.1 without TLS, else HTTP/2 is offered.
	command(ctx context.Context, dir, address, upstream, certificate string) (*exec.Cmd, error)
	// reloading is the signal that has it read its configuration again.
	reloading() syscall.Signal
}

// nginx adds directives to a configuration that passes everything on.
type nginx struct {
	http, server, location string
	buffered               bool // proxy_buffering, which is on where nobody says otherwise
	old                    bool // HTTP/1.0 to the provider, which is so where nobody says otherwise
}

func (x nginx) command(ctx context.Context, dir, address, upstream, certificate string) (*exec.Cmd, error) {
	listen := "listen " + address + ";"
	if certificate != "" {
		listen = "listen " + address + " ssl http2; ssl_certificate " + certificate + "; ssl_certificate_key " + certificate + ";"
	}
	user := "" // who is not root has no choice
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	location := x.location
	if !x.buffered {
		location = "proxy_buffering off; " + location
	}
	if !x.old {
		location = `proxy_http_version 1.1; proxy_set_header Connection ""; ` + location
	}
	return configured(ctx, dir, fmt.Sprintf(`
%[1]s daemon off; worker_processes 1; pid %[2]s/pid; error_log %[2]s/error.log;
events {}
http {
	access_log off; keepalive_timeout 10s;
	client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/fastcgi; uwsgi_temp_path %[2]s/uwsgi; scgi_temp_path %[2]s/scgi;
	upstream provider { server %[3]s; keepalive 32; }
	%[4]s
	server { %[5]s %[6]s location / { proxy_pass http://provider; %[7]s } }
}
`, user, dir, upstream, x.http, listen, x.server, location), "nginx", "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c")
}

func (nginx) reloading() syscall.Signal { return syscall.SIGHUP }

// haproxy adds to a configuration that passes everything on.
type haproxy struct {
	defaults string
	frontend string
	server   string // options of the provider's line
}

func (x haproxy) command(ctx context.Context, dir, address, upstream, certificate string) (*exec.Cmd, error) {
	if certificate != "" {
		address += " ssl crt " + certificate + " alpn h2,http/1.1"
	}
	defaults := strings.Join(append([]string{"mode http", "retries 0", "timeout connect 1s", "timeout client 10s", "timeout server 10s", "timeout queue 10s"}, x.defaults), "\n\t")
	return configured(ctx, dir, fmt.Sprintf("global\n\tmaxconn 500\ndefaults\n\t%s\nfrontend in\n\tbind %s\n\t%s\n\tdefault_backend out\nbackend out\n\tserver provider %s %s\n",
		defaults, address, x.frontend, upstream, x.server), "haproxy", "-W", "-db", "-f")
}

func (haproxy) reloading() syscall.Signal { return syscall.SIGUSR2 }

// configured returns a command whose last argument is a file with that text.
func configured(ctx context.Context, dir, text, program string, args ...string) (*exec.Cmd, error) {
	file := filepath.Join(dir, program+".conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, program, append(args, file)...), nil
}
