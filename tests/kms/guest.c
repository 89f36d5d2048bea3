/*
 * The program on the screen inside the virtual machine: sets a mode, draws a known picture, and writes what its input
 * devices tell. It takes one command a line on standard input and answers with lines on standard output.
 *
 *   fill X Y W H RRGGBB   paints in the buffer that is shown
 *   flip RRGGBB           paints the other buffer whole and shows that one
 *   cursor X Y            puts the hardware's cursor there, a green square
 *   mode N                shows the Nth mode of the connector, grey
 *   text, graphics        hands the terminal to the kernel, or takes it
 *   time PID              the processor time of a process, in hundredths of a second
 *
 * The structures are those of the kernel's drm_mode.h, which Debian has in a package of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <linux/kd.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct mode {
  uint32_t clock;
  uint16_t width, h[4], height, v[4];
  uint32_t refresh, flags, type;
  char name[32];
};
struct resources {
  uint64_t framebuffers, crtcs, connectors, encoders;
  uint32_t framebuffer_count, crtc_count, connector_count, encoder_count, bounds[4];
};
struct connector {
  uint64_t encoders, modes, properties, values;
  uint32_t mode_count, property_count, encoder_count, encoder, id, type, type_id, connection, mm_width, mm_height, subpixel, pad;
};
struct crtc {
  uint64_t connectors;
  uint32_t connector_count, id, framebuffer, x, y, gamma, valid;
  struct mode mode;
};
struct dumb {
  uint32_t height, width, bpp, flags, handle, pitch;
  uint64_t size;
};
struct map {
  uint32_t handle, pad;
  uint64_t offset;
};
struct framebuffer {
  uint32_t id, width, height, pitch, bpp, depth, handle;
};
struct cursor {
  uint32_t flags, crtc;
  int32_t x, y;
  uint32_t width, height, handle;
};
struct dirty {
  uint32_t framebuffer, flags, color, count;
  uint64_t clips;
};
#define RESOURCES _IOWR('d', 0xA0, struct resources)
#define SET_CRTC _IOWR('d', 0xA2, struct crtc)
#define CURSOR _IOWR('d', 0xA3, struct cursor)
#define CONNECTOR _IOWR('d', 0xA7, struct connector)
#define ADD_FRAMEBUFFER _IOWR('d', 0xAE, struct framebuffer)
#define DIRTY _IOWR('d', 0xB1, struct dirty)
#define CREATE_DUMB _IOWR('d', 0xB2, struct dumb)
#define MAP_DUMB _IOWR('d', 0xB3, struct map)

#define MOST 64
static int card;
static uint32_t crtcs[MOST], connectors[MOST];
static struct mode modes[MOST];
static uint32_t mode_count;

struct buffer {
  uint32_t *pixels, id, handle, width, height, stride;
};
static struct buffer buffers[2];
static int shown;

static void fail(const char *what) {
  printf("failed: %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct buffer make(uint32_t width, uint32_t height, uint32_t depth) {
  struct dumb dumb = {.width = width, .height = height, .bpp = 32};
  if (ioctl(card, CREATE_DUMB, &dumb)) fail("a buffer");
  struct framebuffer added = {.width = width, .height = height, .pitch = dumb.pitch, .bpp = 32, .depth = depth, .handle = dumb.handle};
  if (depth && ioctl(card, ADD_FRAMEBUFFER, &added)) fail("a framebuffer");
  struct map map = {.handle = dumb.handle};
  if (ioctl(card, MAP_DUMB, &map)) fail("the place of a buffer");
  uint32_t *pixels = mmap(NULL, dumb.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, map.offset);
  if (pixels == MAP_FAILED) fail("mapping a buffer");
  return (struct buffer){pixels, added.id, dumb.handle, width, height, dumb.pitch / 4};
}

static void fill(struct buffer *buffer, uint32_t x, uint32_t y, uint32_t width, uint32_t height, uint32_t colour) {
  for (uint32_t row = y; row < y + height && row < buffer->height; row++)
    for (uint32_t column = x; column < x + width && column < buffer->width; column++) buffer->pixels[row * buffer->stride + column] = colour;
  struct dirty dirty = {.framebuffer = buffer->id};
  ioctl(card, DIRTY, &dirty);
}

static void show(int number, uint32_t mode) {
  struct crtc crtc = {.connectors = (uintptr_t)&connectors[0], .connector_count = 1, .id = crtcs[0], .framebuffer = buffers[number].id, .valid = 1, .mode = modes[mode]};
  if (ioctl(card, SET_CRTC, &crtc)) fail("setting the mode");
  shown = number;
}

static uint32_t current;
static void use(uint32_t mode, uint32_t colour) {
  for (int number = 0; number < 2; number++) {
    buffers[number] = make(modes[mode].width, modes[mode].height, 24);
    fill(&buffers[number], 0, 0, modes[mode].width, modes[mode].height, colour);
  }
  current = mode;
  show(0, mode);
  printf("mode %u %ux%u\n", mode, modes[mode].width, modes[mode].height);
}

/* Input devices of the agent's, as they come. */
static struct pollfd inputs[MOST];
static char known[MOST];
static void look_for_inputs(void) {
  for (int number = 0; number < MOST; number++) {
    if (known[number]) continue;
    char path[40], name[80] = "";
    snprintf(path, sizeof path, "/dev/input/event%d", number);
    int file = open(path, O_RDONLY | O_NONBLOCK);
    if (file < 0) continue;
    known[number] = 1;
    ioctl(file, EVIOCGNAME(sizeof name), name);
    printf("device %d %s\n", number, name);
    if (strncmp(name, "Outpost", 7)) {
      close(file);
      continue;
    }
    inputs[number] = (struct pollfd){file, POLLIN, 0};
  }
}

static void command(char *line) {
  unsigned x, y, width, height, colour, pid;
  if (sscanf(line, "fill %u %u %u %u %x", &x, &y, &width, &height, &colour) == 5) {
    fill(&buffers[shown], x, y, width, height, colour);
  } else if (sscanf(line, "flip %x", &colour) == 1) {
    struct buffer *other = &buffers[!shown];
    fill(other, 0, 0, other->width, other->height, colour);
    show(!shown, current);
  } else if (sscanf(line, "cursor %u %u", &x, &y) == 2) {
    struct buffer image = make(64, 64, 0);
    for (int at = 0; at < 64 * 64; at++) image.pixels[at] = 0xFF20C040;
    struct cursor cursor = {.flags = 3, .crtc = crtcs[0], .x = x, .y = y, .width = 64, .height = 64, .handle = image.handle};
    if (ioctl(card, CURSOR, &cursor)) fail("the cursor");
  } else if (sscanf(line, "mode %u", &x) == 1 && x < mode_count) {
    use(x, 0x808080);
  } else if (!strcmp(line, "text") || !strcmp(line, "graphics")) {
    int terminal = open("/dev/tty1", O_RDWR);
    if (ioctl(terminal, KDSETMODE, line[0] == 't' ? KD_TEXT : KD_GRAPHICS)) fail("the terminal");
    close(terminal);
  } else if (sscanf(line, "time %u", &pid) == 1) {
    char path[40], text[1024] = "";
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int file = open(path, O_RDONLY);
    if (file < 0 || read(file, text, sizeof text - 1) < 0) fail("a process");
    close(file);
    unsigned long user = 0, system = 0;
    sscanf(strrchr(text, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    printf("time %lu of %ld a second\n", user + system, sysconf(_SC_CLK_TCK));
  } else {
    printf("unknown: %s\n", line);
    return;
  }
  printf("done %s\n", line);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int wait = 0; (card = open("/dev/dri/card0", O_RDWR)) < 0; wait++) {
    if (wait == 100) fail("the card");
    usleep(100000);
  }
  struct resources resources = {.crtcs = (uintptr_t)crtcs, .connectors = (uintptr_t)connectors, .crtc_count = MOST, .connector_count = MOST};
  if (ioctl(card, RESOURCES, &resources)) fail("the card's parts");
  struct connector connector = {.modes = (uintptr_t)modes, .mode_count = MOST, .id = connectors[0]};
  if (ioctl(card, CONNECTOR, &connector) || !connector.mode_count) fail("the connector");
  mode_count = connector.mode_count < MOST ? connector.mode_count : MOST;
  for (uint32_t mode = 0; mode < mode_count; mode++) printf("offers %u %ux%u\n", mode, modes[mode].width, modes[mode].height);
  char graphics[] = "graphics";
  command(graphics);
  use(0, 0x3A6EA5);
  for (int number = 0; number < MOST; number++) inputs[number].fd = -1;
  static char line[256];
  size_t length = 0;
  for (;;) {
    look_for_inputs();
    struct pollfd all[MOST + 1];
    memcpy(all, inputs, sizeof inputs);
    all[MOST] = (struct pollfd){0, POLLIN, 0};
    poll(all, MOST + 1, 100);
    for (int number = 0; number < MOST; number++) {
      struct input_event event;
      if (!(all[number].revents & (POLLIN | POLLHUP | POLLERR))) continue;
      ssize_t got = 0;
      while ((got = read(inputs[number].fd, &event, sizeof event)) == sizeof event)
        if (event.type != EV_SYN && event.type != EV_MSC) printf("event %u %u %d\n", event.type, event.code, event.value);
      if (got < 0 && errno == ENODEV) {
        close(inputs[number].fd);
        inputs[number].fd = -1;
        known[number] = 0;
        printf("gone %d\n", number);
      }
    }
    if (all[MOST].revents & POLLIN) {
      char byte;
      if (read(0, &byte, 1) != 1) continue;
      if (byte != '\n' && byte != '\r') {
        if (length < sizeof line - 1) line[length++] = byte;
        continue;
      }
      line[length] = 0;
      if (length) command(line);
      length = 0;
    }
  }
}
