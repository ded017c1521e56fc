/* The only program of the Linux guest of run.sh: prints the same bytes by lp and by ppdev.
 *
 * Between the two, and around them, it writes a number to a register that neither uses, base + 7:
 * QEMU's trace shows it, and so where each of them begins and ends. */

#include <fcntl.h>
#include <linux/ppdev.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BASE 0x378
#define BYTES 65536

static unsigned char data[BYTES];

static void end(const char *why)
{
	printf("side-by-side: %s\n", why);
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void load(const char *module, const char *options)
{
	int file = open(module, O_RDONLY);

	if (file < 0 || syscall(SYS_finit_module, file, options, 0) != 0)
		end(module);
	close(file);
}

static void print_all(int file, const char *what)
{
	size_t done = 0;

	while (done < BYTES) {
		ssize_t count = write(file, data + done, BYTES - done);

		if (count <= 0)
			end(what);
		done += count;
	}
}

int main(void)
{
	int file;

	for (int i = 0; i < BYTES; i++)
		data[i] = i * 31 + (i >> 8);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	load("/parport.ko", "");
	load("/parport_pc.ko", "io=0x378 irq=none");
	load("/lp.ko", "");
	load("/ppdev.ko", "");
	if (ioperm(BASE + 7, 1, 1) != 0)
		end("ioperm");

	file = open("/dev/lp0", O_WRONLY);
	if (file < 0)
		end("/dev/lp0");
	outb(1, BASE + 7);
	print_all(file, "lp");
	outb(2, BASE + 7);
	close(file);

	file = open("/dev/parport0", O_RDWR);
	if (file < 0 || ioctl(file, PPCLAIM) != 0)
		end("/dev/parport0");
	outb(3, BASE + 7);
	print_all(file, "ppdev");
	outb(4, BASE + 7);
	ioctl(file, PPRELEASE);
	close(file);
	end("done");
}
