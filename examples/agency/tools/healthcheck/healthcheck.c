/*
 * healthcheck: asks one HTTP URL and exits 0 when it answers with 2xx.
 *
 * Plain sockets and nothing but libc, so that it fits into any image. No TLS,
 * no redirects: it is meant for the loopback interface.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef HEALTHCHECK_VERSION
#define HEALTHCHECK_VERSION "1.4.0"
#endif

enum { UNHEALTHY = 1, USAGE = 2 };

struct url {
	char authority[512]; /* as the Host header wants it */
	char host[256];
	char port[6];
	const char *path;
};

__attribute__((noreturn, format(printf, 2, 3)))
static void fail(int status, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("healthcheck: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(status);
}

static long number(const char *text, long least, long most, const char *name)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < least || value > most)
		fail(USAGE, "%s is not a number from %ld to %ld: '%s'", name, least, most, text);
	return value;
}

static void copy(char *to, size_t capacity, const char *from, size_t length, const char *name)
{
	if (length == 0 || length >= capacity)
		fail(USAGE, "the URL's %s is empty or too long", name);
	memcpy(to, from, length);
	to[length] = '\0';
}

/* RFC 3986, section 3.2, without user information. */
static struct url parse(const char *text)
{
	static const char scheme[] = "http://";
	struct url url = {.port = "80"};
	for (const char *c = text; *c != '\0'; c++)
		if (*c <= ' ' || *c == 0x7f)
			fail(USAGE, "the URL holds a space or a control character");
	if (strncmp(text, scheme, sizeof scheme - 1) != 0)
		fail(USAGE, "the URL does not start with http://: '%s'", text);
	const char *start = text + sizeof scheme - 1;
	size_t length = strcspn(start, "/?#");
	const char *end = start + length;
	copy(url.authority, sizeof url.authority, start, length, "host");

	const char *host_end, *rest;
	if (*start == '[') {
		host_end = memchr(start, ']', length);
		if (host_end == NULL)
			fail(USAGE, "the URL's address lacks its ']'");
		rest = host_end + 1;
		start++;
	} else {
		host_end = memchr(start, ':', length);
		if (host_end == NULL)
			host_end = end;
		rest = host_end;
	}
	copy(url.host, sizeof url.host, start, (size_t)(host_end - start), "host");
	if (rest < end) {
		if (*rest != ':')
			fail(USAGE, "the URL has no port after its address");
		copy(url.port, sizeof url.port, rest + 1, (size_t)(end - rest - 1), "port");
		number(url.port, 1, 65535, "the URL's port");
	}
	url.path = end;
	return url;
}

static long long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits for the events until the deadline; 0, or -1 with errno set. */
static int await(int socket, short events, long long deadline_ms)
{
	for (;;) {
		long long left_ms = deadline_ms - now_ms();
		struct pollfd wanted = {.fd = socket, .events = events};
		int ready = poll(&wanted, 1, left_ms > 0 ? (int)left_ms : 0);
		if (ready > 0)
			return 0;
		if (ready == 0) {
			errno = ETIMEDOUT;
			return -1;
		}
		if (errno != EINTR)
			return -1;
	}
}

/* A connected non-blocking socket, or -1 with errno set. */
static int dial(const struct addrinfo *address, long long deadline_ms)
{
	int connection = socket(address->ai_family, address->ai_socktype, address->ai_protocol);
	if (connection < 0)
		return -1;
	int flags = fcntl(connection, F_GETFL);
	if (flags < 0 || fcntl(connection, F_SETFL, flags | O_NONBLOCK) < 0)
		goto failed;
	if (connect(connection, address->ai_addr, address->ai_addrlen) == 0)
		return connection;
	if (errno != EINPROGRESS || await(connection, POLLOUT, deadline_ms) != 0)
		goto failed;
	int error = 0;
	socklen_t size = sizeof error;
	if (getsockopt(connection, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		goto failed;
	if (error == 0)
		return connection;
	errno = error;
failed:
	error = errno;
	close(connection);
	errno = error;
	return -1;
}

static void send_all(int connection, const char *bytes, size_t size, long long deadline_ms)
{
	while (size > 0) {
		ssize_t sent = send(connection, bytes, size, MSG_NOSIGNAL);
		if (sent >= 0) {
			bytes += sent;
			size -= (size_t)sent;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			if (await(connection, POLLOUT, deadline_ms) != 0)
				fail(UNHEALTHY, "cannot send the request: %s", strerror(errno));
		} else if (errno != EINTR) {
			fail(UNHEALTHY, "cannot send the request: %s", strerror(errno));
		}
	}
}

/* Reads up to the end of the status line and returns its code. */
static int receive_status(int connection, long long deadline_ms)
{
	char line[256];
	size_t length = 0;
	while (length < sizeof line - 1 && memchr(line, '\n', length) == NULL) {
		ssize_t received = recv(connection, line + length, sizeof line - 1 - length, 0);
		if (received > 0) {
			length += (size_t)received;
		} else if (received == 0) {
			break;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			if (await(connection, POLLIN, deadline_ms) != 0)
				fail(UNHEALTHY, "no answer: %s", strerror(errno));
		} else if (errno != EINTR) {
			fail(UNHEALTHY, "no answer: %s", strerror(errno));
		}
	}
	line[length] = '\0';
	int status;
	if (sscanf(line, "HTTP/1.%*1[01] %3d", &status) != 1)
		fail(UNHEALTHY, "the answer is not HTTP/1");
	return status;
}

static int probe(const char *text, long timeout_secs)
{
	struct url url = parse(text);
	long long deadline_ms = now_ms() + timeout_secs * 1000;

	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *addresses;
	int error = getaddrinfo(url.host, url.port, &hints, &addresses);
	if (error != 0)
		fail(UNHEALTHY, "cannot resolve %s: %s", url.host, gai_strerror(error));
	int connection = -1;
	for (struct addrinfo *a = addresses; a != NULL && connection < 0; a = a->ai_next)
		connection = dial(a, deadline_ms);
	if (connection < 0)
		fail(UNHEALTHY, "cannot connect to %s: %s", url.authority, strerror(errno));
	freeaddrinfo(addresses);

	char request[2048];
	size_t path_length = strcspn(url.path, "#");
	int size = snprintf(request, sizeof request,
		"GET %s%.*s HTTP/1.1\r\nHost: %s\r\nUser-Agent: healthcheck/%s\r\nConnection: close\r\n\r\n",
		*url.path == '/' ? "" : "/", (int)path_length, url.path, url.authority, HEALTHCHECK_VERSION);
	if (size < 0 || (size_t)size >= sizeof request)
		fail(USAGE, "the URL is too long");
	send_all(connection, request, (size_t)size, deadline_ms);
	int status = receive_status(connection, deadline_ms);
	close(connection);
	if (status < 200 || status > 299)
		fail(UNHEALTHY, "%s answered %d", text, status);
	return EXIT_SUCCESS;
}

int main(int count, char **arguments)
{
	const char *url = NULL;
	long timeout_secs = 5;
	for (int i = 1; i < count; i++) {
		const char *argument = arguments[i];
		if (strcmp(argument, "--version") == 0) {
			puts("healthcheck " HEALTHCHECK_VERSION);
			return EXIT_SUCCESS;
		} else if (strcmp(argument, "--timeout") == 0 && i + 1 < count) {
			timeout_secs = number(arguments[++i], 1, 3600, "--timeout");
		} else if (*argument == '-' || url != NULL) {
			fail(USAGE, "unexpected argument '%s'; usage: healthcheck [URL] [--timeout SECONDS] [--version]", argument);
		} else {
			url = argument;
		}
	}
	char loopback[64];
	if (url == NULL) {
		const char *port = getenv("PORT");
		if (port == NULL || *port == '\0')
			port = "8080";
		snprintf(loopback, sizeof loopback, "http://127.0.0.1:%ld/health", number(port, 1, 65535, "PORT"));
		url = loopback;
	}
	return probe(url, timeout_secs);
}
