package config_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"switchboard/config"
)

// parse reads the settings as the program does: flags, environment, file.
func parse(t *testing.T, file string, args ...string) (*config.Config, error) {
	t.Helper()
	var c config.Config
	var options []kong.Option
	if file != "" {
		path := filepath.Join(t.TempDir(), "switchboard.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := config.File(path)
		if err != nil {
			return nil, err
		}
		options = append(options, kong.Resolvers(r))
	}
	p, err := kong.New(&c, options...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse(args); err != nil {
		return nil, err
	}
	return &c, c.Validate()
}

// Flag before environment before file before default.
func TestPrecedence(t *testing.T) {
	t.Setenv("SWITCHBOARD_HTTP_ADDR", "127.0.0.1:2")
	t.Setenv("SWITCHBOARD_S3_REGION", "environment")
	c, err := parse(t, "http_addr: 127.0.0.1:3\nSWITCHBOARD_S3_REGION: file\nops-addr: 127.0.0.1:4\nfetch_allow: [10.0.0.0/8, files.local]\n", "--http-addr=127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTPAddr != "127.0.0.1:1" || c.S3Region != "environment" || c.OpsAddr != "127.0.0.1:4" || c.S3Bucket != "switchboard" || strings.Join(c.FetchAllow, " ") != "10.0.0.0/8 files.local" {
		t.Errorf("settings = %+v", c)
	}
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"htp_addr: x":    `unknown key "htp_addr"; known: allowed-origins`,
		"help: true":     `unknown key "help"`,
		"a: [":           "configuration file",
		"http_addr: 1:x": `SWITCHBOARD_HTTP_ADDR="1:x"`,
	} {
		want = strings.ReplaceAll(want, "allowed-origins", "")
		if _, err := parse(t, file); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
	if _, err := config.File(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file was taken")
	}
}

// An error names the setting and what would be right, and shows no secret.
func TestValidate(t *testing.T) {
	t.Parallel()
	good := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, c := range []struct {
		args []string
		want string // empty: taken
	}{
		{nil, ""},
		{[]string{"--database-url=postgres://u:hush@db/x", "--public-url=https://chat.example.org", "--zookeeper-servers=a:2181,b:2181", "--master-key=" + good, "--fetch-allow=10.0.0.0/8,files.local:9000", "--trusted-proxies=10.0.0.1,fd00::/8", "--allowed-origins=https://desk.example.org,http://127.0.0.1:5173/"}, ""},
		{[]string{"--database-url=mysql://u:hush@db/x"}, "SWITCHBOARD_DATABASE_URL="},
		{[]string{"--replica-url=postgres://u:hush@db2/x"}, ""},
		{[]string{"--replica-url=mysql://u:hush@db/x"}, "SWITCHBOARD_REPLICA_URL="},
		{[]string{"--http-addr=8080"}, "SWITCHBOARD_HTTP_ADDR="},
		{[]string{"--ops-addr=127.0.0.1:99999"}, "SWITCHBOARD_OPS_ADDR="},
		{[]string{"--public-url=chat.example.org"}, "SWITCHBOARD_PUBLIC_URL="},
		{[]string{"--public-url=ftp://chat.example.org"}, "SWITCHBOARD_PUBLIC_URL="},
		{[]string{"--zookeeper-servers=a"}, "SWITCHBOARD_ZOOKEEPER_SERVERS="},
		{[]string{"--s3-endpoint=http://s3:9000"}, "SWITCHBOARD_S3_TLS"},
		{[]string{"--s3-endpoint=s3:9000"}, "_S3_ACCESS_KEY"},
		{[]string{"--s3-tls=maybe"}, "SWITCHBOARD_S3_TLS="},
		{[]string{"--master-key=hush"}, "head -c 32 /dev/urandom | base64"},
		{[]string{"--fetch-allow=10.0.0.0/99"}, "SWITCHBOARD_FETCH_ALLOW="},
		{[]string{"--trusted-proxies=proxy"}, "SWITCHBOARD_TRUSTED_PROXIES="},
		{[]string{"--allowed-origins=desk.example.org"}, "SWITCHBOARD_ALLOWED_ORIGINS="},
		{[]string{"--allowed-origins=https://desk.example.org/login"}, "SWITCHBOARD_ALLOWED_ORIGINS="},
		{[]string{"--keep-updates=24h"}, "SWITCHBOARD_KEEP_UPDATES="},
		{[]string{"--keep-messages=24h"}, "SWITCHBOARD_KEEP_MESSAGES="},
		{[]string{"--phone-region=Russia"}, "SWITCHBOARD_PHONE_REGION="},
		{[]string{"--keep-updates=168h", "--keep-messages=720h"}, ""},
		{[]string{"--log-level=loud"}, "SWITCHBOARD_LOG_LEVEL="},
		{[]string{"--log-format=xml"}, "SWITCHBOARD_LOG_FORMAT="},
	} {
		_, err := parse(t, "", c.args...)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: the error shows the secret: %v", c.args, err)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	if r, err := config.ParseRoles(nil); err != nil || len(r) != 5 {
		t.Errorf("no roles: %q, %v", r, err)
	}
	if _, err := config.ParseRoles([]string{"edge", "hub"}); err == nil || !strings.Contains(err.Error(), `"hub"; allowed: edge, workers, chathub, loader, filestore`) {
		t.Errorf("unknown role: %v", err)
	}
}
