/*
 * An ALSA capture device that needs no hardware: it speaks a file in real time, on demand badly.
 *
 *     pcm.fakemic { type fakemic  file "s16le.raw"  rate 48000  channels 2  control "fakemic.ctl" }
 *
 * The device has a clock of its own that never stops, as a real microphone has: frame f of its
 * life is frame f of the (looped) file, whether somebody listens or not. Whatever is not read
 * in time is lost, and the device itself counts how much, in the control block that it shares
 * with the test (see device.py, which must agree with struct control).
 *
 * One stream per process.
 */
#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum fault {
  NONE = 'n',
  UNPLUGGED = 'u', /* every call says ENODEV */
  STALLED = 's',   /* the clock runs, nothing arrives, nobody says why */
  XRUN = 'x',      /* nothing for outage_ms, then one EPIPE, then NONE again */
  ZEROS = 'z',     /* digital silence */
  BUSY = 'b',      /* open says EBUSY */
  HUNG = 'h',      /* every call blocks */
  RUNAWAY = 'r',   /* a full buffer is ready whenever somebody asks */
};

struct control {
  volatile int32_t fault;
  volatile int32_t clock_error_ppm;
  volatile int32_t outage_ms;
  volatile int32_t opened;     /* streams started */
  volatile int64_t epoch_ns;   /* CLOCK_MONOTONIC of frame 0; set at the first start */
  volatile int64_t next_frame; /* the frame after the last one read; -1 before the first */
  volatile int64_t frames_read;
  volatile int64_t frames_lost; /* passed between two reads without being read */
};

struct fakemic {
  snd_pcm_ioplug_t io;
  struct control* control;
  int16_t* audio; /* (audio_frames, channels) */
  int64_t audio_frames;
  long rate, channels;
  int timer_fd;
  int64_t clock_frame;   /* the device's clock when last looked at */
  int64_t first_frame;   /* the clock where this run of the stream began */
  int64_t captured;      /* frames captured by this run: the hardware pointer */
  int64_t xrun_began_ns; /* 0: no xrun is under way */
};

static int64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t device_clock(const struct fakemic* mic) {
  double elapsed_s = (monotonic_ns() - mic->control->epoch_ns) * 1e-9;
  return (int64_t)(elapsed_s * mic->rate * (1.0 + mic->control->clock_error_ppm * 1e-6));
}

/* Every entry point passes here first: hang if hung, fail if unplugged. */
static int condition(const struct fakemic* mic) {
  while (mic->control->fault == HUNG) usleep(10000);
  return mic->control->fault == UNPLUGGED ? -ENODEV : 0;
}

static int set_timer(struct fakemic* mic, int64_t period_ns) {
  struct itimerspec spec = {
      .it_interval = {period_ns / 1000000000, period_ns % 1000000000},
      .it_value = {period_ns / 1000000000, period_ns % 1000000000},
  };
  return timerfd_settime(mic->timer_fd, 0, &spec, NULL);
}

static int on_prepare(snd_pcm_ioplug_t* io) {
  struct fakemic* mic = io->private_data;
  int error = condition(mic);
  mic->captured = 0;
  mic->xrun_began_ns = 0;
  return error;
}

static int on_start(snd_pcm_ioplug_t* io) {
  struct fakemic* mic = io->private_data;
  int error = condition(mic);
  if (error) return error;
  if (mic->control->epoch_ns == 0) mic->control->epoch_ns = monotonic_ns();
  mic->control->opened++;
  mic->captured = 0;
  mic->clock_frame = mic->first_frame = device_clock(mic);
  int64_t period_ns = 1000000000LL * io->period_size / mic->rate;
  return set_timer(mic, period_ns < 1000000 ? 1000000 : period_ns);
}

static int on_stop(snd_pcm_ioplug_t* io) {
  struct fakemic* mic = io->private_data;
  condition(mic);
  return set_timer(mic, 0);
}

static int xrun_is_over(struct fakemic* mic) {
  if (mic->xrun_began_ns == 0) mic->xrun_began_ns = monotonic_ns();
  return monotonic_ns() - mic->xrun_began_ns >= mic->control->outage_ms * 1000000LL;
}

static snd_pcm_sframes_t on_pointer(snd_pcm_ioplug_t* io) {
  struct fakemic* mic = io->private_data;
  int error = condition(mic);
  if (error) return error;

  int64_t clock_frame = device_clock(mic);
  int64_t passed = clock_frame - mic->clock_frame;
  mic->clock_frame = clock_frame;
  int64_t waiting = mic->captured - (int64_t)io->appl_ptr;
  switch (mic->control->fault) {
    case STALLED:
      mic->first_frame += passed;
      break;
    case XRUN:
      if (!xrun_is_over(mic)) {
        mic->first_frame += passed;
        break;
      }
      mic->control->fault = NONE;
      return -EPIPE;
    case RUNAWAY:
      mic->captured += (int64_t)io->buffer_size - 1 - waiting;
      break;
    default:
      mic->captured += passed;
      if (waiting + passed > (int64_t)io->buffer_size)
        return -EPIPE; /* the reader was late: an honest overrun */
  }
  return mic->captured % io->buffer_size;
}

/* The same frames may be asked for twice (mmap access); they count once. */
static void count(struct control* control, int64_t frame, int64_t frames) {
  int64_t end = frame + frames;
  if (control->next_frame >= 0 && frame > control->next_frame)
    control->frames_lost += frame - control->next_frame;
  if (end > control->next_frame)
    control->frames_read += end - (frame > control->next_frame ? frame : control->next_frame);
  control->next_frame = end;
}

static snd_pcm_sframes_t on_transfer(snd_pcm_ioplug_t* io, const snd_pcm_channel_area_t* areas,
                                     snd_pcm_uframes_t offset, snd_pcm_uframes_t size) {
  struct fakemic* mic = io->private_data;
  int error = condition(mic);
  if (error) return error;

  int silent = mic->control->fault == ZEROS;
  int64_t first = mic->first_frame + io->appl_ptr;
  for (snd_pcm_uframes_t i = 0; i < size; i++) {
    const int16_t* frame = mic->audio + (first + i) % mic->audio_frames * mic->channels;
    for (long c = 0; c < mic->channels; c++) {
      size_t bit = areas[c].first + (offset + i) * areas[c].step;
      *(int16_t*)((char*)areas[c].addr + bit / 8) = silent ? 0 : frame[c];
    }
  }
  count(mic->control, first, size);
  return size;
}

static int on_poll(snd_pcm_ioplug_t* io, struct pollfd* fds, unsigned int n,
                   unsigned short* ready) {
  struct fakemic* mic = io->private_data;
  uint64_t ticks;
  (void)n;
  if (fds[0].revents & POLLIN && read(mic->timer_fd, &ticks, sizeof ticks) < 0)
    fds[0].revents &= ~POLLIN;
  if (condition(mic)) {
    *ready = POLLERR | POLLNVAL;
    return -ENODEV;
  }
  int quiet = mic->control->fault == STALLED || (mic->control->fault == XRUN && !xrun_is_over(mic));
  *ready = quiet ? 0 : fds[0].revents & POLLIN;
  return 0;
}

static int on_close(snd_pcm_ioplug_t* io) {
  struct fakemic* mic = io->private_data;
  condition(mic);
  close(mic->timer_fd);
  munmap(mic->control, sizeof *mic->control);
  free(mic->audio);
  free(mic);
  return 0;
}

static const snd_pcm_ioplug_callback_t callbacks = {
    .start = on_start,
    .stop = on_stop,
    .pointer = on_pointer,
    .transfer = on_transfer,
    .prepare = on_prepare,
    .poll_revents = on_poll,
    .close = on_close,
};

static struct control* map_control(const char* path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return NULL;
  void* block = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return block == MAP_FAILED ? NULL : block;
}

static int load_audio(struct fakemic* mic, const char* path) {
  struct stat info;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  if (fstat(fd, &info) < 0 || !(mic->audio = malloc(info.st_size)) ||
      read(fd, mic->audio, info.st_size) != info.st_size) {
    close(fd);
    return -EIO;
  }
  close(fd);
  mic->audio_frames = info.st_size / (mic->channels * sizeof(int16_t));
  return mic->audio_frames > 0 ? 0 : -EINVAL;
}

static int offer_formats(struct fakemic* mic) {
  unsigned int access[] = {SND_PCM_ACCESS_RW_INTERLEAVED, SND_PCM_ACCESS_MMAP_INTERLEAVED};
  unsigned int format[] = {SND_PCM_FORMAT_S16_LE};
  unsigned int rate[] = {mic->rate}, channels[] = {mic->channels};
  snd_pcm_ioplug_t* io = &mic->io;
  int error = 0;
  if (!error) error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_ACCESS, 2, access);
  if (!error) error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_FORMAT, 1, format);
  if (!error) error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_RATE, 1, rate);
  if (!error) error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_CHANNELS, 1, channels);
  if (!error)
    error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, 64, 65536);
  if (!error) error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIODS, 2, 64);
  return error;
}

SND_PCM_PLUGIN_DEFINE_FUNC(fakemic) {
  const char *file = NULL, *control_path = NULL;
  long rate = 16000, channels = 1;
  snd_config_iterator_t item, next;
  (void)root;
  snd_config_for_each(item, next, conf) {
    snd_config_t* entry = snd_config_iterator_entry(item);
    const char* id;
    if (snd_config_get_id(entry, &id) < 0) continue;
    if (!strcmp(id, "file")) snd_config_get_string(entry, &file);
    if (!strcmp(id, "control")) snd_config_get_string(entry, &control_path);
    if (!strcmp(id, "rate")) snd_config_get_integer(entry, &rate);
    if (!strcmp(id, "channels")) snd_config_get_integer(entry, &channels);
  }
  if (stream != SND_PCM_STREAM_CAPTURE || !file || !control_path) return -EINVAL;

  struct fakemic* mic = calloc(1, sizeof *mic);
  if (!mic) return -ENOMEM;
  mic->rate = rate;
  mic->channels = channels;
  mic->timer_fd = -1;
  int error = -ENODEV;
  if (!(mic->control = map_control(control_path))) goto fail;
  if ((error = condition(mic)) || (error = mic->control->fault == BUSY ? -EBUSY : 0)) goto fail;
  if ((error = load_audio(mic, file))) goto fail;
  if ((mic->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) < 0) {
    error = -errno;
    goto fail;
  }
  mic->io.version = SND_PCM_IOPLUG_VERSION;
  mic->io.name = "a microphone made of a file";
  mic->io.callback = &callbacks;
  mic->io.private_data = mic;
  mic->io.poll_fd = mic->timer_fd;
  mic->io.poll_events = POLLIN;
  if ((error = snd_pcm_ioplug_create(&mic->io, name, stream, mode))) goto fail;
  if ((error = offer_formats(mic))) {
    snd_pcm_ioplug_delete(&mic->io); /* calls on_close, which frees */
    return error;
  }
  *pcmp = mic->io.pcm;
  return 0;

fail:
  if (mic->timer_fd >= 0) close(mic->timer_fd);
  if (mic->control) munmap(mic->control, sizeof *mic->control);
  free(mic->audio);
  free(mic);
  return error;
}

SND_PCM_PLUGIN_SYMBOL(fakemic);
