// Package config loads and checks the settings. Only cmd imports it; the other
// packages get what they need as values of their own.
//
// A setting comes from, in this order: flag, environment, file, default.
package config

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// Config is every setting of a process. The struct tags are the flags and the
// environment names; the file has the same keys in YAML, as `database_url` or
// as `SWITCHBOARD_DATABASE_URL`.
type Config struct {
	DatabaseURL string `name:"database-url" env:"SWITCHBOARD_DATABASE_URL" placeholder:"postgres://..." help:"Postgres; empty starts the machine's own Postgres under the data folder."`
	ReplicaURL  string `name:"replica-url" env:"SWITCHBOARD_REPLICA_URL" placeholder:"postgres://..." help:"A replica of the database, for reports and what the loader reads; empty: none."`
	DataDir     string `name:"data-dir" env:"SWITCHBOARD_DATA_DIR" default:"./data" help:"Embedded Postgres, disk files, generated key."`
	HTTPAddr    string `name:"http-addr" env:"SWITCHBOARD_HTTP_ADDR" default:"127.0.0.1:8080" help:"Public listener."`
	OpsAddr     string `name:"ops-addr" env:"SWITCHBOARD_OPS_ADDR" default:"127.0.0.1:9090" help:"Listener of /metrics, /healthz, /readyz, /debug/pprof/."`
	PublicURL   string `name:"public-url" env:"SWITCHBOARD_PUBLIC_URL" placeholder:"https://..." help:"What platforms can reach (webhooks, signed file links); empty: from the listener."`

	ZooKeeperServers []string `name:"zookeeper-servers" env:"SWITCHBOARD_ZOOKEEPER_SERVERS" placeholder:"HOST:PORT,..." help:"Empty: in-process bus, for a single process only."`

	S3Endpoint  string `name:"s3-endpoint" env:"SWITCHBOARD_S3_ENDPOINT" placeholder:"HOST:PORT" help:"S3-compatible storage; empty: files on disk under the data folder."`
	S3Bucket    string `name:"s3-bucket" env:"SWITCHBOARD_S3_BUCKET" default:"switchboard" help:"Bucket for files."`
	S3AccessKey string `name:"s3-access-key" env:"SWITCHBOARD_S3_ACCESS_KEY" help:"Access key of the storage."`
	S3SecretKey string `name:"s3-secret-key" env:"SWITCHBOARD_S3_SECRET_KEY" help:"Secret key of the storage."`
	S3Region    string `name:"s3-region" env:"SWITCHBOARD_S3_REGION" default:"us-east-1" help:"Region of the storage."`
	S3TLS       string `name:"s3-tls" env:"SWITCHBOARD_S3_TLS" default:"false" help:"Whether the storage is spoken to over TLS: true or false."`

	MasterKey  string   `name:"master-key" env:"SWITCHBOARD_MASTER_KEY" help:"32 bytes, base64; encrypts platform secrets. Generated into the data folder when empty and Postgres is embedded."`
	FetchAllow []string `name:"fetch-allow" env:"SWITCHBOARD_FETCH_ALLOW" placeholder:"HOST|CIDR,..." help:"Hosts and CIDRs outside the public ranges that file fetches may reach."`

	CallbackAllow []string `name:"callback-allow" env:"SWITCHBOARD_CALLBACK_ALLOW" placeholder:"HOST|CIDR,..." help:"Hosts, host:port pairs and CIDRs outside the public ranges that status callbacks may be posted to, besides those of SWITCHBOARD_FETCH_ALLOW."`

	AllowedOrigins []string `name:"allowed-origins" env:"SWITCHBOARD_ALLOWED_ORIGINS" placeholder:"https://...,..." help:"Origins of web pages that may open the operators' WebSocket, besides our own."`

	TrustedProxies []string `name:"trusted-proxies" env:"SWITCHBOARD_TRUSTED_PROXIES" placeholder:"CIDR,..." help:"Proxies whose X-Forwarded-For is believed, for counting failed logins by client; empty: none."`

	KeepUpdates time.Duration `name:"keep-updates" env:"SWITCHBOARD_KEEP_UPDATES" default:"720h" help:"How long the platforms' updates are kept as they came; messages are not touched. They are dropped week by week."`

	KeepMessages time.Duration `name:"keep-messages" env:"SWITCHBOARD_KEEP_MESSAGES" default:"0" help:"How long messages are kept, with their timelines and customers' files; 0: for ever. They are dropped month by month."`

	PhoneRegion string `name:"phone-region" env:"SWITCHBOARD_PHONE_REGION" placeholder:"CC" help:"Country of phone numbers without a country code in imports, in two letters, like RU; empty: none."`

	StopWords []string `name:"stop-words" env:"SWITCHBOARD_STOP_WORDS" placeholder:"WORD,..." help:"What customers write, as a whole message, to get no more campaigns; default: stop, unsubscribe and their Russian equals."`

	InactiveAfter int `name:"inactive-after" env:"SWITCHBOARD_INACTIVE_AFTER" default:"3" help:"After how many permanent failures in a row an address is left out by campaigns."`

	LogLevel  string `name:"log-level" env:"SWITCHBOARD_LOG_LEVEL" default:"info" help:"debug, info, warn or error."`
	LogFormat string `name:"log-format" env:"SWITCHBOARD_LOG_FORMAT" help:"text or json; default text on a terminal, else json."`
}

// Roles are the parts a process can play.
var Roles = []string{"edge", "workers", "chathub", "loader", "filestore"}

// ParseRoles checks a list of roles; an empty one means all.
func ParseRoles(roles []string) ([]string, error) {
	if len(roles) == 0 {
		return Roles, nil
	}
	for _, r := range roles {
		if !slices.Contains(Roles, r) {
			return nil, fmt.Errorf("--roles: unknown role %q; allowed: %s", r, strings.Join(Roles, ", "))
		}
	}
	return roles, nil
}

func bad(key, value, allowed string) error {
	return fmt.Errorf("SWITCHBOARD_%s=%q: use %s", key, value, allowed)
}

// Validate checks every setting; the error names the key, the value and what is
// allowed. Values that may hold secrets are not repeated.
func (c *Config) Validate() error {
	if c.DatabaseURL != "" && !strings.HasPrefix(c.DatabaseURL, "postgres://") && !strings.HasPrefix(c.DatabaseURL, "postgresql://") {
		return bad("DATABASE_URL", "(hidden)", "postgres://user:password@host:port/database, or nothing for the embedded Postgres")
	}
	if c.ReplicaURL != "" && !strings.HasPrefix(c.ReplicaURL, "postgres://") && !strings.HasPrefix(c.ReplicaURL, "postgresql://") {
		return bad("REPLICA_URL", "(hidden)", "postgres://user:password@host:port/database, or nothing to read from the database itself")
	}
	for key, addr := range map[string]string{"HTTP_ADDR": c.HTTPAddr, "OPS_ADDR": c.OpsAddr} {
		_, port, err := net.SplitHostPort(addr)
		if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 {
			return bad(key, addr, "host:port, like 127.0.0.1:8080")
		}
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" {
			return bad("PUBLIC_URL", c.PublicURL, "an address like https://chat.example.org")
		}
	}
	for _, s := range c.ZooKeeperServers {
		if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
			return bad("ZOOKEEPER_SERVERS", strings.Join(c.ZooKeeperServers, ","), "host:port,host:port")
		}
	}
	if c.S3Endpoint != "" {
		if strings.Contains(c.S3Endpoint, "://") {
			return bad("S3_ENDPOINT", c.S3Endpoint, "host:port without a scheme; TLS is SWITCHBOARD_S3_TLS")
		}
		if c.S3AccessKey == "" || c.S3SecretKey == "" || c.S3Bucket == "" {
			return bad("S3_ENDPOINT", c.S3Endpoint, "it together with _S3_BUCKET, _S3_ACCESS_KEY and _S3_SECRET_KEY")
		}
	}
	if _, err := strconv.ParseBool(c.S3TLS); err != nil {
		return bad("S3_TLS", c.S3TLS, "true or false")
	}
	if c.KeepUpdates != 0 && c.KeepUpdates < 7*24*time.Hour {
		return bad("KEEP_UPDATES", c.KeepUpdates.String(), "168h or more: duplicates are known by the updates of a week")
	}
	if c.KeepMessages != 0 && c.KeepMessages < 30*24*time.Hour {
		return bad("KEEP_MESSAGES", c.KeepMessages.String(), "0 for ever, or 720h or more")
	}
	if c.MasterKey != "" {
		if key, err := base64.StdEncoding.DecodeString(c.MasterKey); err != nil || len(key) != 32 {
			return bad("MASTER_KEY", "(hidden)", "32 bytes in base64, like the output of: head -c 32 /dev/urandom | base64")
		}
	}
	for _, a := range c.FetchAllow {
		if strings.Contains(a, "/") {
			if _, err := netip.ParsePrefix(a); err != nil {
				return bad("FETCH_ALLOW", a, "hosts, host:port or CIDRs like 10.0.0.0/8, separated by commas")
			}
		}
	}
	for _, a := range c.CallbackAllow {
		if strings.Contains(a, "/") {
			if _, err := netip.ParsePrefix(a); err != nil {
				return bad("CALLBACK_ALLOW", a, "hosts, host:port or CIDRs like 10.0.0.0/8, separated by commas")
			}
		}
	}
	for _, o := range c.AllowedOrigins {
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" {
			return bad("ALLOWED_ORIGINS", o, "origins like https://desk.example.org, separated by commas")
		}
	}
	if _, err := c.Proxies(); err != nil {
		return err
	}
	if r := c.PhoneRegion; r != "" && (len(r) != 2 || strings.ToUpper(r) != r || strings.Trim(r, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
		return bad("PHONE_REGION", r, "a country's two letters, like RU")
	}
	if c.InactiveAfter < 0 {
		return bad("INACTIVE_AFTER", strconv.Itoa(c.InactiveAfter), "a number from 1")
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return bad("LOG_LEVEL", c.LogLevel, "debug, info, warn or error")
	}
	if c.LogFormat != "" && c.LogFormat != "text" && c.LogFormat != "json" {
		return bad("LOG_FORMAT", c.LogFormat, "text or json")
	}
	return nil
}

// Proxies are the addresses of trusted proxies.
func (c *Config) Proxies() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, s := range c.TrustedProxies {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, bad("TRUSTED_PROXIES", s, "addresses or CIDRs like 10.0.0.0/8, separated by commas")
		}
		list = append(list, p)
	}
	return list, nil
}

// UseTLS tells whether the storage is spoken to over TLS.
func (c *Config) UseTLS() bool {
	yes, _ := strconv.ParseBool(c.S3TLS)
	return yes
}

// Logger makes the process' logger on standard error.
func (c *Config) Logger(terminal bool) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // checked by Validate
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "text" || (c.LogFormat == "" && terminal) {
		return slog.New(slog.NewTextHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, opts))
}

// File is a kong resolver over the YAML file at path. Unknown keys are an error
// that lists the known ones.
func File(path string) (kong.Resolver, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration file: %w", err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	byKey := map[string]string{}
	for k, v := range values {
		key := strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(k, "-", "_")), "switchboard_")
		byKey[key] = scalarText(v)
	}
	parser, err := kong.New(&Config{})
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, f := range parser.Model.Flags {
		known[strings.ReplaceAll(f.Name, "-", "_")] = true
	}
	for key := range byKey {
		if !known[key] || key == "help" {
			delete(known, "help")
			names := make([]string, 0, len(known))
			for n := range known {
				names = append(names, n)
			}
			slices.Sort(names)
			return nil, fmt.Errorf("configuration file %s: unknown key %q; known: %s", path, key, strings.Join(names, ", "))
		}
	}
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, env := range flag.Envs {
			if _, set := os.LookupEnv(env); set {
				return nil, nil // the environment goes before the file
			}
		}
		if v, ok := byKey[strings.ReplaceAll(flag.Name, "-", "_")]; ok {
			return v, nil
		}
		return nil, nil
	}), nil
}

func scalarText(v any) string {
	if list, ok := v.([]any); ok {
		parts := make([]string, len(list))
		for i, e := range list {
			parts[i] = fmt.Sprint(e)
		}
		return strings.Join(parts, ",")
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}
